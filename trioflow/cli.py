"""The command line: `trioflow serve DIR` and `trioflow demo`.

Rule 1: what was asked for and cannot be is told in one line on stderr: exit code 2 for the command, 1 for the system.
Rule 2: Ctrl-C and SIGTERM end it cleanly, with exit code 0 and no traceback; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import NoReturn

import trio

from trioflow import demo, http


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` tells more\n")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
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
    parser = _Parser(prog="trioflow", description="Node-like streams for Trio, and an HTTP server that streams them.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve", parents=[where], help="serve a directory's files", description="Serve a directory's files over HTTP."
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
        return trio.run(_serve, handler, arguments.host, arguments.port, greeting)
    except KeyboardInterrupt:  # before the signals are watched
        return 0


async def _serve(handler: http.Handler, host: str, port: int, greeting: str) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as serving:
                try:
                    urls = await serving.start(partial(http.serve, handler, host=host, port=port))
                except OSError as exc:
                    return _failed(1, f"cannot listen on {_shown(host)}, port {port}: {_reason(exc)}")
                print(greeting, " and ".join(urls), flush=True)
                await anext(signals)
                watching.start_soon(_end_at_next, signals)
                serving.cancel_scope.cancel()
            watching.cancel_scope.cancel()
    return 0


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
