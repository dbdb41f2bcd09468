"""tf.inspect: every run of the program, during the run and for a while after; on Trio's clock."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioflow as tf
from tests.consumers import Boom, Source
from trioflow._core import observing
from trioflow._core.labels import label, name_without_values


@tf.transform
async def slowly(items: AsyncIterable[Any], seconds: float = 1.0) -> AsyncIterator[Any]:
    async for item in items:
        await trio.sleep(seconds)
        yield item


async def test_a_run_is_shown_while_it_lasts_and_after_it_has_ended(autojump_clock: MockClock) -> None:
    async with tf.inspect() as inspector, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline([b"ab"] * 40, slowly(), tf.count(), capacity=2))
        await trio.sleep(10.5)
        inspector.runs()
        await trio.sleep(2.5)
        (going,) = inspector.runs()
        await trio.sleep(2.5)
        (going,) = inspector.runs()
        nursery.cancel_scope.cancel()

    (run,) = inspector.runs()
    assert (going.name, going.state, going.failure) == ("from_iterable | slowly | count", "running", None)
    assert going.seconds == pytest.approx(15.5)
    assert going.began == pytest.approx(time.time(), abs=60)
    assert [(stage.taken, stage.items) for stage in going.stages] == [(0, 18), (16, 15), (15, 15)]
    assert [(stage.bytes_taken, stage.bytes) for stage in going.stages] == [(None, 36), (32, 30), (30, 30)]
    assert going.slowest is going.stages[1]
    assert going.stages[1].rate == pytest.approx(1)
    assert going.as_dict()["slowest"] == 1
    assert json.loads(json.dumps(run.as_dict()))["state"] == run.state == "cancelled"
    assert observing.observers == ()


async def test_rates_are_those_of_the_last_seconds_until_the_run_has_ended(autojump_clock: MockClock) -> None:
    @tf.readable
    async def ever_faster() -> AsyncIterator[int]:
        for number in range(100):
            yield number
            await trio.sleep(10 if number < 1 else 0.1)

    async with tf.inspect() as inspector, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ever_faster().pipe(tf.drain()))
        rates = []
        for _ in range(8):
            await trio.sleep(2)
            (run,) = inspector.runs()
            rates.append(run.stages[0].rate)

    assert rates[-1] == pytest.approx(10, abs=0.5)
    assert inspector.runs()[0].stages[0].rate == pytest.approx(100 / 19.9, abs=0.5)


async def whole() -> None:
    await tf.pipeline(Source([1, 2], Boom("no")).readable, tf.map(str), tf.drain())


async def fused() -> None:
    await tf.pipeline([1, 0], tf.map(lambda n: 1 / n), tf.drain())


async def opened() -> None:
    async with Source([1, 2], Boom("no")).readable.open() as receive:
        async for _ in receive:
            pass


async def written() -> None:
    async with tf.for_each(fail).open() as send:
        await send.send(1)


async def fail(item: Any) -> None:
    raise Boom("no")


async def in_the_block() -> None:
    async with tf.from_iterable([1, 2]).open():
        raise Boom("no")


async def not_there() -> None:
    await tf.pipeline(tf.read_file("/nowhere"), tf.write_file("/nowhere"))


@pytest.mark.parametrize(
    ("run", "name", "told"),
    [
        (whole, "run | map(str) | drain", ["Boom: no", "in stage 1 of 3: run()"]),
        (fused, "from_iterable | map(<lambda>) | drain", ["ZeroDivisionError", "in stage 2 of 3: map(<lambda>)"]),
        (opened, "run", ["Boom: no", "in stage 1 of 1"]),
        (written, "for_each(fail)", ["Boom: no", "in stage 1 of 1"]),
        (in_the_block, "from_iterable", ["Boom: no"]),
        (not_there, "read_file | write_file", ["FileNotFoundError", "in stage 1 of 2"]),
    ],
)
async def test_a_failure_is_shown_with_its_notes(run: Any, name: str, told: list[str]) -> None:
    async with tf.inspect() as inspector:
        with contextlib.suppress(Boom, ZeroDivisionError, FileNotFoundError):
            await run()

    (seen,) = inspector.runs()
    assert (seen.name, seen.state) == (name, "failed")
    assert all(words in str(seen.failure) for words in told), seen.failure


async def test_a_group_of_failures_is_shown_with_its_members(autojump_clock: MockClock) -> None:
    async def fail_at_its_end(output: tf.SendChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("first")

    async with tf.inspect() as inspector:
        with contextlib.suppress(BaseExceptionGroup):
            async with tf.Readable(fail_at_its_end).open():
                await trio.sleep(1)
                raise Boom("second")

    (seen,) = inspector.runs()
    assert seen.state == "failed"
    assert "Boom: first" in str(seen.failure)
    assert "Boom: second" in str(seen.failure)


async def test_a_reader_that_stops_early_is_not_a_failure() -> None:
    async with tf.inspect() as inspector:
        await tf.from_iterable(range(1000)).pipe(slowly(0)).pipe(tf.first())
        async with tf.from_iterable(range(1000)).open() as receive:
            await receive.receive()
        await tf.merge(tf.from_iterable(range(1000)), tf.repeat(1)).pipe(tf.first())

    assert [run.state for run in inspector.runs()] == ["done", "cancelled", "cancelled", "done", "done"]


async def test_runs_inside_a_run_have_it_as_their_parent(autojump_clock: MockClock) -> None:
    source = Source([1], Boom("once"))
    async with tf.inspect() as inspector:
        await tf.retry(source.readable, attempts=2).pipe(tf.recover(lambda exc: [0])).pipe(tf.collect())

    names = {run.id: run.name for run in inspector.runs()}
    shown = [(run.name, names.get(run.parent or 0), run.state) for run in inspector.runs()]
    outer = "recover(<lambda>) | collect"
    assert shown == [
        (outer, None, "done"),
        ("from_iterable", outer, "done"),
        ("retry", outer, "failed"),
        ("run", "retry", "failed"),
    ]


async def test_a_file_copied_as_a_whole_counts_as_one_item_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(300_000))
    async with tf.inspect() as inspector:
        await tf.pipeline(tf.read_file(tmp_path / "a"), tf.write_file(tmp_path / "b"))

    (run,) = inspector.runs()
    assert (run.name, run.state) == ("read_file | write_file", "done")
    assert [(stage.items, stage.bytes) for stage in run.stages] == [(1, 300_000)] * 2


async def test_a_file_that_cannot_be_copied_as_a_whole_is_shown_as_one_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with tf.inspect() as inspector, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline([b"abc"], tf.write_file(tmp_path / "pipe", atomic=False)))
        await tf.pipeline(tf.read_file(tmp_path / "pipe"), tf.write_file(tmp_path / "b"))

    assert sorted(run.name for run in inspector.runs()) == ["from_iterable | write_file", "read_file | write_file"]


class Big(bytearray):
    """An item that a weak reference can watch."""


async def test_nothing_of_a_finished_run_stays_alive(autojump_clock: MockClock) -> None:
    async def run() -> list[weakref.ref[Any]]:
        async def close(item: Big) -> None:
            if item[0] == 3:
                raise Boom(item)

        items = [Big([n] * 5000) for n in range(9)]
        with contextlib.suppress(Boom):
            await tf.pipeline(items, tf.map_async(close), tf.buffer(2), tf.drain(), capacity=4)
        return [weakref.ref(thing) for thing in (close, *items)]

    async with tf.inspect() as inspector:
        watched = await run()
        gc.collect()

        assert [ref() for ref in watched if ref() is not None] == []
        assert [run.state for run in inspector.runs()] == ["failed"]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_memory_does_not_grow_with_finished_runs(count: int) -> None:
    blocks: list[int] = []
    async with tf.inspect(keep=10) as inspector:
        for _ in range(3):
            for _ in range(count // 3):
                await tf.pipeline([1], tf.map(str), tf.buffer(2), tf.drain())
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    assert len(inspector.runs()) == 10
    assert blocks[2] - blocks[1] < 100


async def test_unfinished_runs_are_released_when_the_block_ends(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with tf.inspect() as inspector:
            nursery.start_soon(lambda: tf.pipeline(tf.repeat(1), slowly(), tf.drain()))
            await trio.sleep(1)
            assert (len(inspector.runs()), inspector.running) == (1, 1)
        assert inspector.runs() == ()
        nursery.cancel_scope.cancel()
    assert inspector.runs() == ()


async def test_two_inspectors_and_a_monitor_see_the_same_run() -> None:
    async def inner(item: int) -> int:
        return await tf.from_iterable([item]).pipe(tf.first())

    watch = tf.monitor()
    async with tf.inspect() as one, tf.inspect(keep=0) as none, tf.inspect() as other:
        await tf.pipeline([1, 2], tf.map_async(inner), tf.count(), monitor=watch)

    assert [stage.items for stage in watch.snapshot().stages] == [2, 2, 2]
    assert none.runs() == ()
    outer, *inners = one.runs()
    assert [run.parent for run in inners] == [outer.id] * 2
    assert [(run.id, run.parent, run.state) for run in other.runs()] == [
        (run.id, run.parent, run.state) for run in one.runs()
    ]


async def test_an_inspector_given_to_a_pipeline_sees_only_that_run() -> None:
    inspector = tf.Inspector()
    await tf.pipeline([1, 2], tf.count(), monitor=inspector)
    await tf.pipeline([1, 2, 3], tf.count())

    (run,) = inspector.runs()
    assert [stage.items for stage in run.stages] == [2, 2]


async def test_names_of_runs_contain_no_values() -> None:
    async with tf.inspect() as inspector:
        await tf.pipeline(["secret"], tf.map(str.upper), tf.intersperse("-"), tf.batch(10, within=2), tf.drain())

    (run,) = inspector.runs()
    assert run.name == "from_iterable | map(upper) | intersperse | batch | drain"


def test_runs_in_another_thread_are_not_shown() -> None:
    async def main() -> None:
        async with tf.inspect() as inspector:
            await trio.to_thread.run_sync(lambda: trio.run(tf.pipeline, [1], tf.drain()))
            assert inspector.runs() == ()

    trio.run(main)


@pytest.mark.parametrize("keep", [-1, 1.5, True])
def test_a_bad_keep_is_refused_at_once(keep: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="inspect: keep must be"):
        tf.inspect(keep=keep)


@pytest.mark.parametrize(
    ("named", "name"),
    [
        (label("batch", 10, within=2), "batch"),
        (label("map", str.upper, workers=4), "map(upper)"),
        (label("retry", on=ValueError), "retry(ValueError)"),
        (lambda: "connect_tcp('a(b).example', 80).readable", "connect_tcp.readable"),
    ],
)
def test_the_name_of_a_stage_has_functions_but_no_values(named: Any, name: str) -> None:
    assert name_without_values(named) == name
