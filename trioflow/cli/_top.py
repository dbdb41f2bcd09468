"""The command `trioflow top URL`: shows the runs of another program, as `top` shows processes.

Rule 1: it asks the program's inspector for `runs.json` repeatedly, and keeps nothing. The answer is not trusted: it
    cannot send control characters to the terminal.
Rule 2: the run with the stage that waits most comes first, and in each run the stage that the others wait for is
    marked.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import trioflow as tf
from trioflow.cli._failed import Failed, printable, printing, reason_of

if TYPE_CHECKING:
    from rich.console import RenderableType

_PATIENCE: Final = 5.0  # seconds
_LARGEST: Final = 1 << 24  # bytes of an answer
_BAR: Final = 8  # characters


class _Run(NamedTuple):
    """One run as answered, and in printable form: `shown` has its name and state, and the names of its stages."""

    answered: dict[str, Any]
    state: str
    shown: tf.Snapshot
    failure: list[str]

    @property
    def place(self) -> tuple[bool, float, float]:
        """The sort key: running first, then by how much of the time a stage waits, then by age."""
        waits = max((stage.source_wait + stage.reader_wait for stage in self.shown.stages), default=0.0)
        return self.state != "running", -round(waits, 2), -self.shown.seconds


Show: TypeAlias = Callable[[list[_Run]], object]


class _NoAnswer(Exception):
    """No answer came in time; the program may just be busy."""


def top(arguments: argparse.Namespace) -> None:
    """Show the runs once, or until the program ends or Ctrl-C is pressed.

    Raises:
        Failed: the runs cannot be read or shown.
    """
    ask = _asker(arguments.url)
    show: Show = _print_json if arguments.json else _print_text
    try:
        with printing():
            if arguments.once:
                show(ask())
            elif arguments.json:
                _watch(arguments.every, ask, show)
            else:
                with _on_terminal() as draw:
                    _watch(arguments.every, ask, draw)
    except _NoAnswer as exc:
        raise Failed(1, str(exc)) from exc


def _watch(every: float, ask: Callable[[], list[_Run]], show: Show) -> None:
    show(runs := ask())
    while True:
        time.sleep(every)
        try:
            runs = ask()
        except _NoAnswer:  # its event loop is blocked: keep showing the last answer
            pass
        except Failed as exc:
            raise Failed(1, f"the program has ended or is no longer reachable: {exc}") from exc
        show(runs)


def _asker(place: str) -> Callable[[], list[_Run]]:
    """Return a function that asks the inspector at `place` for its runs."""
    shown = printable(place)
    base = (place if "://" in place else f"http://{place}").partition("#")[0].partition("?")[0]
    try:
        parts = urlsplit(base)
        is_right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        is_right = False
    if not is_right or not base.isascii() or not base.isprintable() or " " in base:
        raise Failed(2, f"expected the URL of an inspector, such as http://127.0.0.1:8000/, got {shown}")
    url = urljoin(base.rstrip("/") + "/", "runs.json")
    opener = build_opener(ProxyHandler({}), HTTPSHandler())  # the program is on this machine or near: no proxy

    def ask() -> list[_Run]:
        try:
            return sorted(map(_read, json.loads(_body(opener, url))["runs"]), key=lambda run: run.place)
        except HTTPError as exc:
            exc.close()
            raise Failed(1, f"{shown} is not an inspector: it answers {exc.code} to {url}") from exc
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, HTTPException) as exc:
            raise Failed(1, f"{shown} is not an inspector: the answer of {url} does not describe runs") from exc
        except OSError as exc:
            reason = getattr(exc, "reason", exc)  # a URLError has the cause there
            if isinstance(reason, TimeoutError):
                raise _NoAnswer(f"{shown} has not answered within {_PATIENCE:g} seconds") from exc
            cause = reason_of(reason) if isinstance(reason, OSError) else str(reason)
            raise Failed(1, f"cannot reach {shown}: {printable(cause)}") from exc

    return ask


def _body(opener: OpenerDirector, url: str) -> bytes:
    with opener.open(Request(url, headers={"accept": "application/json"}), timeout=_PATIENCE) as answer:
        body: bytes = answer.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise ValueError("the answer is too large")
    return body


def _read(run: dict[str, Any]) -> _Run:
    state = printable(run["state"])
    stages = [tf.StageSnapshot(**stage)._replace(name=printable(stage["name"])) for stage in run["stages"]]
    shown = tf.Snapshot(f"{printable(run['name'])}, {state}", float(run["seconds"]), tuple(stages))
    str(shown)  # raises if a field that should be a number is not
    return _Run(run, state, shown, [printable(line) for line in (run["failure"] or "").splitlines()])


def _print_json(runs: list[_Run]) -> None:
    print(json.dumps({"runs": [run.answered for run in runs]}), flush=True)


def _print_text(runs: list[_Run]) -> None:
    shown = ["\n".join([str(run.shown), *(f"    {line}" for line in run.failure)]) for run in runs]
    print("\n\n".join(shown) or "no runs", flush=True)


@contextmanager
def _on_terminal() -> Generator[Show, None, None]:
    """Draw on the whole terminal until Ctrl-C or SIGTERM."""
    if not (sys.stdout and sys.stdout.isatty()):  # it is None if stdout is closed
        raise Failed(2, "stdout is not a terminal; add --once or --json to print")
    try:
        from rich.live import Live
    except ImportError as exc:
        raise Failed(1, "drawing needs rich: pip install 'trioflow[top]', or add --once or --json") from exc
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that the terminal is restored
    try:
        with Live(screen=True, auto_refresh=False) as live:
            yield lambda runs: live.update(_table(runs), refresh=True)
    except KeyboardInterrupt:
        pass


def _table(runs: list[_Run]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, expand=True, header_style="dim")
    table.add_column("run and stage", no_wrap=True, overflow="ellipsis", ratio=1)
    for head in ("items", "items/s", "channel", "waits for source", "for reader"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        style = {"running": "bold", "failed": "bold red"}.get(run.state, "dim")
        table.add_row(Text(f"{run.shown.name}, {run.shown.seconds:.1f} s", style))
        for stage in run.shown.stages:
            is_slowest = stage is run.shown.slowest and len(run.shown.stages) > 1
            table.add_row(
                Text(f"  {stage.name}{'  < the others wait for it' if is_slowest else ''}"),
                f"{stage.items:,}",
                f"{stage.rate:,.0f}",
                "" if stage.fill is None else _gauge(stage.fill),
                f"{stage.source_wait:.0%}",
                f"{stage.reader_wait:.0%}",
                style="yellow" if is_slowest and run.state == "running" else "",
            )
        for line in run.failure:
            table.add_row(Text(f"    {line}", "red"))
    return table


def _gauge(fill: float) -> str:
    filled = round(min(max(fill, 0.0), 1.0) * _BAR)
    return f"{'█' * filled}{'░' * (_BAR - filled)} {fill:4.0%}"
