"""The command line: commands, options and exit codes.

Rule 1: an error is one line on stderr, with exit code 2 for a mistake in what was typed and 1 for a failure of the
    system.
Rule 2: Ctrl-C and SIGTERM end the command with exit code 0 and no traceback, from the start; a second one ends it at
    once.
Rule 3: modules that only serving needs are imported late: `--help` and a typing error take no longer than
    `import trioflow`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from trioflow.cli._failed import Failed
from trioflow.cli._signals import leaving_at_a_signal
from trioflow.cli._values import Places, count, limit, number, port, seconds, timeout, whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with leaving_at_a_signal():
        arguments = _parser().parse_args(argv)
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


def _version() -> str:
    import importlib.metadata  # imports 70 modules: too long to come before the signals are handled

    try:
        return importlib.metadata.version("trioflow")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trioflow", description="Streams with backpressure for Trio, and an HTTP server that streams."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        parents=[_server_options()],
        usage="%(prog)s [DIR] [PORT] [options]",
        help="serve the files of a directory over HTTP",
        description="Serve the files of a directory over HTTP.",
    )
    _add_file_options(serve)
    demo = commands.add_parser(
        "demo",
        parents=[_server_options()],
        help="serve a page that shows streams at work",
        description="Serve a page that shows streams at work, with the code of each example.",
    )
    demo.set_defaults(workers=1, worker_timeout=None)
    top = commands.add_parser(
        "top",
        help="watch the streams of a running program",
        description="Watch the runs of a program that serves an inspector: http.inspector(...), or TRIOFLOW_INSPECT in its "
        "environment. The run that waits most comes first.",
    )
    top.add_argument("url", metavar="URL", help="the address of the inspector, such as http://127.0.0.1:8000/")
    top.add_argument("--once", action="store_true", help="print the runs once and exit")
    top.add_argument("--json", action="store_true", help="print one JSON object per update")
    top.add_argument(
        "--every", type=seconds, default=1.0, metavar="SECONDS", help="time between updates (default: %(default)s)"
    )
    _add_redis(
        commands.add_parser(
            "redis",
            parents=[_tls_options()],
            help="inspect a stream in Redis and repair it",
            description="Inspect a stream in Redis: its status, dead letters and senders.",
        )
    )
    _add_work(
        commands.add_parser(
            "work",
            parents=[_tls_options()],
            help="call a function for each entry of a stream in Redis",
            description="Call a function for each entry of a stream in Redis, until it ends or a signal arrives.",
        )
    )
    return parser


def _tls_options() -> _Parser:
    """Return the options for TLS to a Redis server."""
    parser = _Parser(add_help=False)
    parser.add_argument("--tls-ca", metavar="FILE", help="trust the certificate authorities in this file (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="client certificate to present (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, if it is not in that file")
    return parser


def _add_work(parser: argparse.ArgumentParser) -> None:
    """Add the options of `redis.work`, under the same names."""
    one_or_more = partial(whole, least=1)
    parser.add_argument(
        "handler",
        metavar="MODULE:FUNCTION",
        help="the function to call with each delivery, such as tasks:handle; looked up in the current directory first",
    )
    parser.add_argument("--url", required=True, help="the server: redis://, rediss://, redis+sentinel:// or unix://")
    parser.add_argument("--stream", required=True, metavar="NAME", help="the name of the stream")
    parser.add_argument("--group", required=True, metavar="NAME", help="the group of workers that share the entries")
    for name, kind, metavar, text in (
        ("--concurrency", one_or_more, "N", "calls in progress at once (default: 1)"),
        ("--prefetch", one_or_more, "N", "unacknowledged entries to hold at once (default: as --concurrency)"),
        ("--grace", number, "SECONDS", "how long to wait for calls in progress when stopping (default: 20)"),
        ("--lease", number, "SECONDS", "silence after which others take over this worker's entries (default: 30)"),
        ("--tries", number, "N", "tries of an entry before it becomes a dead letter (default: 5)"),
        ("--retry-delay", number, "SECONDS", "wait before the first retry of an entry (default: 0)"),
        (
            "--max-retry-delay",
            number,
            "SECONDS",
            "longest wait before a retry; it doubles with each try (default: 3600)",
        ),
        ("--dead-letters", number, "N", "dead letters to keep (default: 10000)"),
        ("--patience", number, "SECONDS", "how long to wait for an unreachable server (default: inf)"),
    ):
        parser.add_argument(name, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text)
    parser.add_argument("-v", "--verbose", action="store_true", help="print a traceback for each failure")


def _add_redis(parser: argparse.ArgumentParser) -> None:
    """Add the actions on a stream in Redis."""
    parser.add_argument("url", metavar="URL", help="the server: redis://, rediss://, redis+sentinel:// or unix://")
    parser.add_argument("stream", metavar="STREAM", help="the name of the stream")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object per line")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {
        name: actions.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in (
            ("status", "show counts of the stream and of each receiver"),
            ("dead", "list dead letters with their errors"),
            ("requeue", "put dead letters back into the stream"),
            ("drop", "delete dead letters"),
            ("senders", "list the senders that keep the stream open"),
        )
    }
    made["dead"].add_argument(
        "--limit",
        type=partial(whole, least=1),
        default=1000,
        metavar="N",
        help="how many to list, oldest first (default: %(default)s)",
    )
    for name in ("requeue", "drop"):
        made[name].add_argument("ids", nargs="*", metavar="ID", help="the id of a dead letter")
        made[name].add_argument("--all", action="store_true", help="all dead letters")
    made["drop"].add_argument("--keep", type=whole, metavar="N", help="delete all but the newest N")
    made["senders"].add_argument("--drop", metavar="NAME", help="close this sender on its behalf")


def _server_options() -> _Parser:
    """Return the options of both commands: where to listen, with which certificate, and others of `http.serve`."""
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for all of IPv4, :: for all of IPv6 and IPv4 (default: %(default)s)",
    )
    parser.add_argument(
        "-p",
        "--port",
        type=port,
        default=8000,
        help="port to listen on, 0 for any free one (default: %(default)s)",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--unix", metavar="PATH", help="listen on this Unix socket instead of a port")
    place.add_argument(
        "--fd", type=int, metavar="N", help="listen on this inherited socket, a file descriptor such as 3"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="use TLS with this certificate chain (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, if it is not in that file")
    parser.add_argument(
        "--log",
        choices=("text", "json", "off"),
        default="text",
        help="format of the access log on stdout (default: %(default)s)",
    )
    parser.add_argument(
        "--trust-proxy",
        action="append",
        metavar="ADDRESS",
        help="a proxy, or a network of proxies, whose headers to trust for the client's address; "
        "'unix' for every client of the Unix socket; repeatable",
    )
    parser.add_argument(
        "--proxy-header",
        choices=("x-forwarded", "forwarded"),
        default="x-forwarded",
        help="the kind of header that these proxies set (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=number,
        metavar="SECONDS",
        help="how long to wait for requests in progress when stopping (default: 5)",
    )
    parser.add_argument(
        "--limit",
        type=limit,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="set a limit of http.Limits, such as idle=15 or connections=200; 'inf' for no limit; repeatable",
    )
    parser.add_argument("--open", action="store_true", help="open the address in a browser")
    return parser


def _add_file_options(serve: argparse.ArgumentParser) -> None:
    """Add the options of `http.files`, under the same names."""
    flag = partial(serve.add_argument, action="store_true")
    serve.add_argument(
        "places",
        nargs="*",
        action=Places,
        metavar="DIR, PORT",
        help="directory to serve and port to listen on (default: . 8000); names that begin with a dot are left out",
    )
    serve.set_defaults(directory=".")
    serve.add_argument(
        "--workers", type=count, default=1, metavar="N", help="number of processes (default: %(default)s)"
    )
    serve.add_argument(
        "--worker-timeout",
        type=timeout,
        metavar="SECONDS",
        help="replace a process that hangs for this long; 'inf' for never (default: 30)",
    )
    serve.add_argument("--prefix", default="/", help="URL path to serve the directory at (default: %(default)s)")
    serve.add_argument("--index", default="index.html", help="file to send for a directory (default: %(default)s)")
    serve.add_argument(
        "--listing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="list directories that have no index (default, unless --spa); --no-listing answers 404",
    )
    serve.add_argument(
        "--not-found",
        default="404.html",
        metavar="FILE",
        help="file to send with a 404, if it exists; '' for none (default: %(default)s)",
    )
    flag("--clean-urls", help="send about.html for /about, if there is no file about")
    flag("--spa", help="send the index of DIR for pages that do not exist, for a single-page application")
    flag("--hidden", help="also serve names that begin with a dot")
    flag("--follow-symlinks", help="also follow symbolic links out of the directory")
    serve.add_argument(
        "--precompressed",
        default="br,zstd,gzip",
        metavar="CODINGS",
        help="compressed variants to send if they exist beside a file, best first; '' for none (default: %(default)s)",
    )
    flag("--compress", help="compress text with gzip while sending")
    serve.add_argument(
        "--cache-control", metavar="VALUE", help="value of the Cache-Control header, such as 'max-age=60'"
    )
    serve.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="an origin whose pages may read the files, or '*'; repeatable"
    )
