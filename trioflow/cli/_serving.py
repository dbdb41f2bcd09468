"""The commands `trioflow serve` and `trioflow demo`: serve until a signal."""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import threading
import webbrowser
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any, Final

from trioflow import http
from trioflow.cli._failed import Failed, printable, reason_of
from trioflow.cli._log import Log

_FORMATS: Final = {
    "text": (http.Access.as_line, "lines missing here, because the log was not read fast enough: {}"),
    "json": (http.Access.as_json, '{{"missing": {}}}'),
}


def serve(arguments: argparse.Namespace) -> None:
    """Serve until a signal.

    Raises:
        Failed: the server cannot be started.
    """
    handler, greeting = _content(arguments)
    options = _options(arguments)
    announce = partial(_announce, greeting, getattr(arguments, "prefix", "/").rstrip("/"), opens=arguments.open)
    log = Log(*_FORMATS[arguments.log]) if arguments.log in _FORMATS else None
    try:
        http.run(handler, greeting=announce, **options, log=log)
    except OSError as exc:
        raise Failed(1, f"cannot listen on {_place(arguments)}: {reason_of(exc)}") from exc
    except RuntimeError as exc:
        raise Failed(1, str(exc)) from exc
    finally:
        if log is not None:
            log.close()


def _announce(greeting: str, path: str, urls: list[str], *, opens: bool) -> None:
    """Print the addresses, and open the first in a browser if `opens`."""
    urls = [url + path for url in urls]
    print(greeting, " and ".join(urls), flush=True)
    if opens:  # in a thread, as a text browser blocks until it is closed
        threading.Thread(target=_show, args=(urls[0],), daemon=True).start()


def _show(url: str) -> None:
    if not webbrowser.open(url):
        print(f"trioflow: found no browser to open {url} with", file=sys.stderr)


def _content(arguments: argparse.Namespace) -> tuple[http.Handler, str]:
    """Return the handler for the command, and the greeting to print once it serves."""
    if arguments.command == "demo":
        from trioflow import demo

        return demo.handler(), "The trioflow demo is at"
    try:
        handler = http.files(
            arguments.directory,
            prefix=arguments.prefix,
            index=arguments.index,
            listing=not arguments.spa if arguments.listing is None else arguments.listing,
            hidden=arguments.hidden,
            follow_symlinks=arguments.follow_symlinks,
            precompressed=[coding for coding in arguments.precompressed.split(",") if coding],
            compress=arguments.compress,
            cache_control=arguments.cache_control,
            cors=arguments.cors,
            not_found=arguments.not_found or None,
            clean_urls=arguments.clean_urls,
            spa=arguments.spa,
        )
    except ValueError as exc:
        raise Failed(2, printable(str(exc))) from exc
    except OSError as exc:
        raise Failed(2, f"cannot serve {printable(str(exc.filename))}: {reason_of(exc)}") from exc
    return handler, f"Serving {printable(arguments.directory)} at"


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options for `http.run`, without the log."""
    options: dict[str, Any] = {
        "limits": _limits(arguments),
        "workers": arguments.workers,
        "worker_timeout": arguments.worker_timeout,
    }
    if arguments.tls_cert is not None:
        make_context = partial(_tls_context, arguments.tls_cert, arguments.tls_key)
        make_context()  # report problems with the files before anything starts
        options["ssl_context"] = make_context
    elif arguments.tls_key is not None:
        raise Failed(2, "--tls-key needs --tls-cert")
    if arguments.trust_proxy is not None:
        try:
            options["proxies"] = http.Proxies(arguments.trust_proxy, header=arguments.proxy_header)
        except ValueError as exc:
            raise Failed(2, f"cannot trust a proxy: {printable(str(exc))}") from exc
    if arguments.unix is not None:
        if arguments.open:
            raise Failed(2, "--open needs a port: no browser opens a Unix socket")
        options["unix"] = arguments.unix
    elif arguments.fd is not None:
        options["listeners"] = [_inherited(arguments.fd)]
    else:
        options.update(host=arguments.host, port=arguments.port)
    return options


def _limits(arguments: argparse.Namespace) -> http.Limits:
    limits = dict(arguments.limit)
    if arguments.grace is not None:
        limits["grace"] = arguments.grace
    known = [field.name for field in fields(http.Limits)]
    for name in limits:
        if name not in known:
            raise Failed(2, f"unknown limit {printable(name)!r}; the limits are {', '.join(known)}")
    try:
        return http.Limits(**limits)
    except (TypeError, ValueError) as exc:
        raise Failed(2, f"the limit {str(exc).partition(': ')[2]}") from exc  # drop the name of the function


def _place(arguments: argparse.Namespace) -> str:
    if arguments.unix is not None:
        return printable(arguments.unix)
    if arguments.fd is not None:
        return f"file descriptor {arguments.fd}"
    return f"{printable(arguments.host)}, port {arguments.port}"


def _inherited(number: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except (OSError, ValueError, OverflowError) as exc:
        raise Failed(2, f"file descriptor {number} is not a socket") from exc
    with suppress(OSError):  # macOS does not have this option
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Failed(2, f"file descriptor {sock.detach()} is not a listening socket")
    return sock


def _tls_context(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password="")  # otherwise OpenSSL asks for one at the terminal
    except ssl.SSLError as exc:
        files = printable(certificate) if key is None else f"{printable(certificate)} with the key {printable(key)}"
        reason = "expected a certificate and its private key, in PEM format"
        if exc.reason == "KEY_VALUES_MISMATCH":
            reason = "the key belongs to another certificate"
        raise Failed(2, f"cannot use the certificate {files}: {reason}") from exc
    except OSError as exc:
        names = " or ".join(printable(name) for name in (certificate, key) if name is not None)
        raise Failed(2, f"cannot read {names}: {reason_of(exc)}") from exc
    return context
