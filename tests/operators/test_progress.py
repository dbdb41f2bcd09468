"""progress: plain lines, a bar on a terminal, nothing if silent."""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Boom, Source


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@tf.transform
async def slowly(items: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for item in items:
        await trio.sleep(1)
        yield item


async def test_without_a_terminal_a_line_is_printed_at_intervals_and_at_the_end(autojump_clock: MockClock) -> None:
    told = io.StringIO()

    await tf.pipeline(range(12), slowly(), tf.progress(12, name="numbers", file=told), tf.drain())

    assert told.getvalue().splitlines() == [
        "numbers: 5 of 12 items, 42 %",
        "numbers: 10 of 12 items, 83 %",
        "numbers: 12 of 12 items, 100 %",
    ]


async def test_after_a_file_the_total_is_known(tmp_path: Path) -> None:
    path, told = tmp_path / "file", io.StringIO()
    path.write_bytes(b"x" * 300_000)

    await tf.read_file(path, start=100_000).pipe(tf.progress(file=told)).pipe(tf.drain())

    assert told.getvalue().splitlines()[-1] == "195.3 KiB of 195.3 KiB, 100 %"


async def test_without_a_total_it_counts() -> None:
    told = io.StringIO()

    await tf.pipeline([b"abc"] * 5, tf.progress(file=told), tf.drain())
    await tf.pipeline(["abc"] * 5, tf.progress(file=told), tf.drain())
    await tf.pipeline([], tf.progress(0, file=told), tf.drain())
    await tf.pipeline([b"", b"abc"], tf.progress(file=told), tf.drain())

    assert told.getvalue().splitlines() == ["15 B", "5 items", "0 of 0 items", "3 B"]


async def test_on_a_terminal_it_is_a_bar() -> None:
    told = Terminal()

    await tf.pipeline([b"x" * 1024] * 4, tf.progress(4096, name="copy", file=told), tf.drain())

    assert "copy" in told.getvalue()
    assert "4.1/4.1 kB" in told.getvalue()


@pytest.mark.parametrize("name", ["[1/2] copy", "[copy] a", "[/tmp/file]"])
async def test_a_name_is_shown_beside_the_bar_as_it_is(name: str) -> None:
    told = Terminal()

    await tf.pipeline(range(3), tf.progress(3, name=name, file=told), tf.drain())

    assert name in told.getvalue()


async def test_the_bar_of_a_failed_run_does_not_reach_its_total() -> None:
    told = Terminal()

    with pytest.raises(Boom):
        await tf.pipeline(Source([1, 2], Boom()).readable, tf.progress(9, file=told), tf.drain())

    assert "9/9" not in told.getvalue()


async def test_silent_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert await tf.pipeline(range(3), tf.progress(silent=True), tf.count()) == 3
    assert capsys.readouterr() == ("", "")


async def test_it_writes_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    await tf.pipeline(range(3), tf.progress(), tf.drain())

    assert capsys.readouterr() == ("", "3 items\n")


async def test_without_a_standard_error_it_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)

    assert await tf.pipeline(range(3), tf.progress(), tf.count()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"total": -1}, "total must be at least 0, got -1"), ({"every": 0}, "every must be above 0, got 0")],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tf.progress(**arguments)
