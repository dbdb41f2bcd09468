"""The command line: `trioflow serve DIR` and `trioflow demo`.

Rule 1: what was asked for and cannot be is told in one line on stderr: exit code 2 for the command, 1 for the system.
Rule 2: Ctrl-C and SIGTERM end it cleanly, with exit code 0 and no traceback; a second one ends it at once. So it is
    with workers, where SIGHUP replaces them one by one.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.metadata
import os
import queue
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn

import trio

import trioflow as tf
from trioflow import demo, http

_Log = Callable[[http.Access], str]

_LOGS: Final[dict[str, _Log | None]] = {"text": http.Access.as_line, "json": http.Access.as_json, "off": None}
_LINES: Final = 4096  # that wait to be written
_PATIENCE: Final = 1.0  # seconds for the last ones


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` tells more\n")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1024):
        raise argparse.ArgumentTypeError(f"workers are a number from 1 to 1024, not {text!r}")
    return int(text)


def _version() -> str:
    try:
        return importlib.metadata.version("trioflow")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    where = _Parser(add_help=False)
    where.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    where.add_argument(
        "--port", type=_port, default=8000, help="the port to listen on, 0 for any free one (default: %(default)s)"
    )
    place = where.add_mutually_exclusive_group()
    place.add_argument("--unix", metavar="PATH", help="the Unix socket to listen on, in place of a port")
    place.add_argument("--fd", type=int, metavar="N", help="the number of a socket that listens already, such as 3")
    where.add_argument("--tls-cert", metavar="FILE", help="a certificate, and those it rests on, in PEM: speak TLS")
    where.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, where it is not in that file")
    where.add_argument(
        "--log", choices=_LOGS, default="text", help="how to print a line for each request (default: %(default)s)"
    )
    where.add_argument(
        "--trust-proxy",
        action="append",
        metavar="ADDRESS",
        help="a proxy, or a network of them, that says who the client is; 'unix' for whoever uses --unix; repeatable",
    )
    where.add_argument(
        "--proxy-header",
        choices=("x-forwarded", "forwarded"),
        default="x-forwarded",
        help="what these proxies set (default: %(default)s)",
    )
    parser = _Parser(prog="trioflow", description="Node-like streams for Trio, and an HTTP server that streams them.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve", parents=[where], help="serve a directory's files", description="Serve a directory's files over HTTP."
    )
    serve.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="how many processes to serve from (default: %(default)s)"
    )
    serve.add_argument("directory", metavar="DIR", help="the directory; names that begin with a dot are not served")
    _add_options(serve)
    commands.add_parser(
        "demo", parents=[where], help="serve the demo", description="Serve a page that shows streams at work."
    )
    return parser


def _add_options(serve: argparse.ArgumentParser) -> None:
    """Add what `http.files` can be told, by the same names."""
    flag = partial(serve.add_argument, action="store_true")
    serve.add_argument("--prefix", default="/", help="the path at which the directory is seen (default: %(default)s)")
    serve.add_argument(
        "--index", default="index.html", help="the file that stands for its directory (default: %(default)s)"
    )
    flag("--listing", help="give a page of what is in a directory that has no index")
    flag("--hidden", help="serve names that begin with a dot, too")
    flag("--follow-symlinks", help="follow symbolic links out of the directory, too")
    serve.add_argument(
        "--precompressed",
        default="br,zstd,gzip",
        metavar="CODINGS",
        help="packed variants to look for beside a file, the best first; '' for none (default: %(default)s)",
    )
    flag("--compress", help="pack texts with gzip on the way")
    serve.add_argument("--cache-control", metavar="VALUE", help="the value of Cache-Control, such as 'max-age=60'")
    serve.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="an origin whose pages may read the files, or '*'; repeatable"
    )


def _files(arguments: argparse.Namespace) -> http.Handler:
    return http.files(
        arguments.directory,
        prefix=arguments.prefix,
        index=arguments.index,
        listing=arguments.listing,
        hidden=arguments.hidden,
        follow_symlinks=arguments.follow_symlinks,
        precompressed=[coding for coding in arguments.precompressed.split(",") if coding],
        compress=arguments.compress,
        cache_control=arguments.cache_control,
        cors=arguments.cors,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "serve":
            handler, greeting = _files(arguments), f"Serving {_shown(arguments.directory)} at"
        else:
            handler, greeting = demo.handler(), "The trioflow demo is at"
    except ValueError as exc:
        return _failed(2, _shown(str(exc)))
    except OSError as exc:
        return _failed(2, f"cannot serve {_shown(str(exc.filename))}: {_reason(exc)}")
    try:
        options = _options(arguments)
    except _Refused as exc:
        return _failed(2, str(exc))
    log = _LOGS[arguments.log]
    try:
        if (workers := getattr(arguments, "workers", 1)) > 1:
            lines = None if log is None else _Lines(log)
            return trio.run(_supervise, partial(http.serve, handler, **options, workers=workers, log=lines), greeting)
        return trio.run(_serve, partial(http.serve, handler, **options), log, greeting)
    except KeyboardInterrupt:  # before the signals are watched
        return 0


class _Refused(Exception):
    """What was asked for cannot be."""


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give what `http.serve` is to be told."""
    options: dict[str, Any] = {}
    if arguments.tls_cert is not None:
        certified = partial(_certified, arguments.tls_cert, arguments.tls_key)
        context = certified()
        options["ssl_context"] = context if getattr(arguments, "workers", 1) == 1 else certified
    elif arguments.tls_key is not None:
        raise _Refused("--tls-key wants --tls-cert, too")
    if arguments.trust_proxy is not None:
        try:
            options["proxies"] = http.Proxies(arguments.trust_proxy, header=arguments.proxy_header)
        except ValueError as exc:
            raise _Refused(f"cannot trust a proxy: {_shown(str(exc))}") from exc
    if arguments.unix is not None:
        options["unix"] = arguments.unix
    elif arguments.fd is not None:
        options["listeners"] = [_inherited(arguments.fd)]
    else:
        options.update(host=arguments.host, port=arguments.port)
    return options


def _inherited(number: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except (OSError, ValueError, OverflowError) as exc:
        raise _Refused(f"number {number} is no socket") from exc
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _Refused(f"number {sock.detach()} is a socket that does not listen")
    return sock


def _certified(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password="")  # or else it would be asked for at the terminal
    except ssl.SSLError as exc:
        whose = _shown(certificate) if key is None else f"{_shown(certificate)} with the key {_shown(key)}"
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise _Refused(f"cannot use the certificate {whose}: the key is another one's") from exc
        raise _Refused(f"cannot use the certificate {whose}: a certificate and its key are wanted, in PEM") from exc
    except OSError as exc:
        names = " or ".join(_shown(name) for name in (certificate, key) if name is not None)
        raise _Refused(f"cannot read {names}: {_reason(exc)}") from exc
    return context


async def _serve(serve: Callable[..., Awaitable[None]], log: _Log | None, greeting: str) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with _written(log) as told, trio.open_nursery() as watching:
            async with trio.open_nursery() as serving:
                try:
                    urls = await serving.start(serve if told is None else partial(serve, log=told))
                except OSError as exc:
                    return _failed(1, f"cannot listen on {_place(serve)}: {_reason(exc)}")
                print(greeting, " and ".join(urls), flush=True)
                await anext(signals)
                watching.start_soon(_end_at_next, signals)
                serving.cancel_scope.cancel()
            watching.cancel_scope.cancel()
    return 0


async def _supervise(serve: Callable[..., Awaitable[None]], greeting: str) -> int:
    async with trio.open_nursery() as nursery:
        try:
            urls = await nursery.start(serve)
        except OSError as exc:
            return _failed(1, f"cannot listen on {_place(serve)}: {_reason(exc)}")
        except RuntimeError as exc:
            return _failed(1, str(exc))
        print(greeting, " and ".join(urls), flush=True)
    return 0


class _Lines:
    """Prints a line for each request of a worker. As in `_written`, nobody waits for who reads them."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES)
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[_Lines], tuple[_Log]]:
        return _Lines, (self._log,)  # each process prints its own

    def __call__(self, access: http.Access) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()
            atexit.register(self._end)
        try:
            self._lines.put_nowait(self._log(access) + "\n")
        except queue.Full:
            pass

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                os.write(1, line.encode())
        except OSError:  # nobody reads them
            pass

    def _end(self) -> None:
        assert self._thread is not None
        try:
            self._lines.put(None, timeout=_PATIENCE)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)


def _place(serve: Any) -> str:
    match serve.keywords:
        case {"unix": path}:
            return _shown(path)
        case {"host": host, "port": port}:
            return f"{_shown(host)}, port {port}"
        case _:
            return "what it was handed"


@asynccontextmanager
async def _written(log: _Log | None) -> AsyncGenerator[Callable[[http.Access], None] | None, None]:
    """Give what takes a line for each request. Nobody waits for who reads them: what is too much is left out."""
    if log is None:
        yield None
        return
    send, receive = tf.open_channel[str](_LINES, overflow="drop_newest")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, receive)
        with send:
            yield lambda access: send.send_nowait(log(access) + "\n")
        nursery.cancel_scope.deadline = trio.current_time() + _PATIENCE


async def _write(lines: tf.ReceiveChannel[str]) -> None:
    try:
        await tf.from_iterable(lines.clone()).pipe(tf.stdout())
    except OSError:  # nobody reads them
        await tf.from_iterable(lines).pipe(tf.drain())


async def _end_at_next(signals: AsyncIterator[int]) -> None:
    await anext(signals)
    # The server gives what it is sending a time of grace, which a cancellation does not shorten.
    os._exit(0)


def _failed(code: int, what: str) -> int:
    print(f"trioflow: {what}", file=sys.stderr)
    return code


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()


def _shown(text: str) -> str:
    """Give what was typed as it may be printed, whatever bytes and controls are in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
