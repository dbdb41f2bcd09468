"""What can be typed: the commands, their options, and the exit codes.

Rule 1: an error is one line on stderr: exit code 2 for what was typed, 1 for what the system refuses.
Rule 2: Ctrl-C and SIGTERM end the command with exit code 0 and no traceback, from the beginning; a second one ends it
    at once.
Rule 3: nothing is imported here that only serving needs: `--help` and a typing error cost no more than `import trioflow`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from trioflow.cli._failed import Failed
from trioflow.cli._signals import leaving_at_a_signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    with leaving_at_a_signal():
        try:
            if arguments.command == "redis":
                from trioflow.cli._redis import run

                run(arguments)
            elif arguments.command == "work":
                from trioflow.cli._work import work

                work(arguments)
            elif arguments.command == "top":
                from trioflow.cli._top import top

                top(arguments)
            else:
                from trioflow.cli._serving import serve

                serve(arguments)
        except Failed as exc:
            print(f"trioflow: {exc}", file=sys.stderr)
            return exc.code
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


class _Places(argparse.Action):
    """Reads `[DIR] [PORT]`, of which a number alone is the port."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        try:
            match values:
                case []:
                    pass
                case [place] if not (place.isascii() and place.isdigit()):
                    namespace.directory = place
                case [place] if os.path.isdir(place):
                    raise argparse.ArgumentTypeError(f"there is a directory {place}: type ./{place} or -p {place}")
                case [port]:
                    namespace.port = _port(port)
                case [directory, port]:
                    namespace.directory, namespace.port = directory, _port(port)
                case _:
                    raise argparse.ArgumentTypeError(
                        f"expected a directory and a port at most, not {len(values)} names"
                    )
        except argparse.ArgumentTypeError as exc:
            raise argparse.ArgumentError(None, str(exc)) from exc


def _limit(text: str) -> tuple[str, float]:
    name, sign, number = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"a limit is NAME=NUMBER, such as idle=15, not {text!r}")
    return name.replace("-", "_"), _number(number)


def _number(text: str) -> float:
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a limit is a number, or 'inf' for none, not {text!r}") from None


def _timeout(text: str) -> float:
    if not (number := _number(text)) > 0:
        raise argparse.ArgumentTypeError(f"a timeout is above 0 seconds, or 'inf' for none, not {text!r}")
    return number


def _seconds(text: str) -> float:
    if not 0 < (number := _number(text)) <= 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0 and up to 86400, not {text!r}")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1024):
        raise argparse.ArgumentTypeError(f"the number of workers is from 1 to 1024, not {text!r}")
    return int(text)


def _whole(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, not {text!r}")
    return int(text)


def _version() -> str:
    try:
        return importlib.metadata.version("trioflow")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trioflow", description="Node-like streams for Trio, and an HTTP server that streams them.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        parents=[_server_options()],
        usage="%(prog)s [DIR] [PORT] [options]",
        help="serve a directory's files",
        description="Serve a directory's files over HTTP.",
    )
    _add_file_options(serve)
    demo = commands.add_parser(
        "demo",
        parents=[_server_options()],
        help="serve the demo",
        description="Serve a page that shows streams at work.",
    )
    demo.set_defaults(workers=1, worker_timeout=None)
    _add_top(
        commands.add_parser(
            "top",
            help="watch the runs of a program",
            description="Watch the runs of a program that serves http.inspector(...), the one that waits the most first.",
        )
    )
    _add_redis(
        commands.add_parser(
            "redis",
            parents=[_tls_options()],
            help="look into a stream in Redis",
            description="Look into a stream in Redis, and mend what is stuck.",
        )
    )
    _add_work(
        commands.add_parser(
            "work",
            parents=[_tls_options()],
            help="call a function for each entry of a stream in Redis",
            description="Call a function for each entry of a stream in Redis, until the stream ends or a signal stops it.",
        )
    )
    return parser


def _tls_options() -> _Parser:
    """Return how a command speaks TLS to a server of Redis."""
    parser = _Parser(add_help=False)
    parser.add_argument("--tls-ca", metavar="FILE", help="trust the authorities in this file (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="offer this client certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, if it is not in that file")
    return parser


def _add_work(parser: argparse.ArgumentParser) -> None:
    """Add what `redis.work` can be told, by the same names."""
    one_or_more = partial(_whole, least=1)
    parser.add_argument(
        "handler",
        metavar="MODULE:FUNCTION",
        help="the function to call with each delivery, such as tasks:handle; modules in the current directory come first",
    )
    parser.add_argument("--url", required=True, help="the server: redis://, rediss://, redis+sentinel:// or unix://")
    parser.add_argument("--stream", required=True, metavar="NAME", help="the name of the stream")
    parser.add_argument("--group", required=True, metavar="NAME", help="the group that shares the work")
    for name, kind, metavar, text in (
        ("--concurrency", one_or_more, "N", "how many calls may be in progress at once (default: 1)"),
        ("--prefetch", one_or_more, "N", "how many entries may be here and unacknowledged (default: as --concurrency)"),
        (
            "--grace",
            _number,
            "SECONDS",
            "how long calls in progress may still take once it is told to stop (default: 20)",
        ),
        ("--lease", _number, "SECONDS", "how long it may be silent before others take what it holds (default: 30)"),
        ("--tries", _number, "N", "how often an entry is tried before it becomes a dead letter (default: 5)"),
        ("--retry-delay", _number, "SECONDS", "how long an entry that failed waits, at first (default: 0)"),
        ("--max-retry-delay", _number, "SECONDS", "how long at most; it doubles with each try (default: 3600)"),
        ("--dead-letters", _number, "N", "how many dead letters are kept (default: 10000)"),
        ("--patience", _number, "SECONDS", "how long to wait for a server that is out of reach (default: inf)"),
    ):
        parser.add_argument(name, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the traceback of each failure")


def _add_top(parser: argparse.ArgumentParser) -> None:
    """Add what can be said of the runs to watch."""
    parser.add_argument("url", metavar="URL", help="where the inspector is served, such as http://127.0.0.1:8000/")
    parser.add_argument("--once", action="store_true", help="print what there is now, and end")
    parser.add_argument("--json", action="store_true", help="print JSON, one object each time")
    parser.add_argument(
        "--every", type=_seconds, default=1.0, metavar="SECONDS", help="how often to look (default: %(default)s)"
    )


def _add_redis(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked about a stream in Redis."""
    parser.add_argument("url", metavar="URL", help="the server: redis://, rediss://, redis+sentinel:// or unix://")
    parser.add_argument("stream", metavar="STREAM", help="the name of the stream")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, one object per line")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {
        name: actions.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in (
            ("status", "count what is in the stream, and what each receiver holds"),
            ("dead", "list dead letters, with the error that each ended with"),
            ("requeue", "put dead letters back into the stream"),
            ("drop", "delete dead letters"),
            ("senders", "list the senders that keep the stream from ending"),
        )
    }
    made["dead"].add_argument(
        "--limit",
        type=partial(_whole, least=1),
        default=1000,
        metavar="N",
        help="how many, the oldest first (default: %(default)s)",
    )
    for name in ("requeue", "drop"):
        made[name].add_argument("ids", nargs="*", metavar="ID", help="the id of a dead letter")
        made[name].add_argument("--all", action="store_true", help="all of them")
    made["drop"].add_argument("--keep", type=_whole, metavar="N", help="all but the newest N")
    made["senders"].add_argument("--drop", metavar="NAME", help="close this sender in its place")


def _server_options() -> _Parser:
    """Return what both commands tell `http.serve`."""
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on; 0.0.0.0 for all, :: for all of IPv6 and IPv4 (default: %(default)s)",
    )
    parser.add_argument(
        "-p",
        "--port",
        type=_port,
        default=8000,
        help="the port to listen on, 0 for any free one (default: %(default)s)",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--unix", metavar="PATH", help="the Unix socket to listen on, instead of a port")
    place.add_argument(
        "--fd", type=int, metavar="N", help="an inherited file descriptor that listens already, such as 3"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="speak TLS with this certificate chain (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, if it is not in that file")
    parser.add_argument(
        "--log",
        choices=("text", "json", "off"),
        default="text",
        help="how to print a line for each request (default: %(default)s)",
    )
    parser.add_argument(
        "--trust-proxy",
        action="append",
        metavar="ADDRESS",
        help="a proxy, or a network of proxies, trusted to say who the client is; "
        "'unix' for every client of the Unix socket; repeatable",
    )
    parser.add_argument(
        "--proxy-header",
        choices=("x-forwarded", "forwarded"),
        default="x-forwarded",
        help="the header that these proxies set (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=_number,
        metavar="SECONDS",
        help="how long requests in progress may still take once it is told to stop (default: 5)",
    )
    parser.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of `http.Limits`, such as idle=15 or connections=200; 'inf' lifts it; repeatable",
    )
    parser.add_argument("--open", action="store_true", help="open it in a browser")
    return parser


def _add_file_options(serve: argparse.ArgumentParser) -> None:
    """Add what `http.files` can be told, by the same names, and about `--workers`."""
    flag = partial(serve.add_argument, action="store_true")
    serve.add_argument(
        "places",
        nargs="*",
        action=_Places,
        metavar="DIR, PORT",
        help="the directory, and the port to listen on (default: . 8000); names that begin with a dot are not served",
    )
    serve.set_defaults(directory=".")
    serve.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="how many processes to serve from (default: %(default)s)"
    )
    serve.add_argument(
        "--worker-timeout",
        type=_timeout,
        metavar="SECONDS",
        help="replace a process that does nothing for so long; 'inf' for never (default: 30)",
    )
    serve.add_argument("--prefix", default="/", help="the URL path at which to serve it (default: %(default)s)")
    serve.add_argument(
        "--index", default="index.html", help="the file to serve for its directory (default: %(default)s)"
    )
    serve.add_argument(
        "--listing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="list the contents of a directory that has no index (default, unless --spa); --no-listing answers 404",
    )
    serve.add_argument(
        "--not-found",
        default="404.html",
        metavar="FILE",
        help="the file to send for what is not found, if it is there; '' for none (default: %(default)s)",
    )
    flag("--clean-urls", help="for /about, serve about.html if there is no about")
    flag("--spa", help="for a page that is not found, serve the index of DIR: an application in it reads the address")
    flag("--hidden", help="also serve names that begin with a dot")
    flag("--follow-symlinks", help="also follow symbolic links out of the directory")
    serve.add_argument(
        "--precompressed",
        default="br,zstd,gzip",
        metavar="CODINGS",
        help="compressed variants to look for beside a file, the best first; '' for none (default: %(default)s)",
    )
    flag("--compress", help="compress texts with gzip as they are sent")
    serve.add_argument("--cache-control", metavar="VALUE", help="the value of Cache-Control, such as 'max-age=60'")
    serve.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="an origin whose pages may read the files, or '*'; repeatable"
    )
