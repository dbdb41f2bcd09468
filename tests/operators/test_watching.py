"""monitor: what each stage has done, and which waits for which; on Trio's clock."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import weakref
from collections.abc import AsyncIterable, AsyncIterator
from types import NoneType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Source


@tf.transform
async def slowly(items: AsyncIterable[Any], seconds: float = 1.0) -> AsyncIterator[Any]:
    async for item in items:
        await trio.sleep(seconds)
        yield item


async def test_a_monitored_run_shows_each_stage_and_which_waits_for_which(autojump_clock: MockClock) -> None:
    watch = tf.monitor("log")

    written = await tf.pipeline(
        [b"x" * 10] * 20, tf.map(lambda line: line * 2), slowly(), tf.count(), monitor=watch, capacity=2
    )

    assert written == 20
    snapshot = watch.snapshot()
    assert snapshot.seconds == pytest.approx(20)
    source, mapped, slow, counted = snapshot.stages
    assert [stage.items for stage in snapshot.stages] == [20, 20, 20, 20]
    assert [stage.bytes for stage in snapshot.stages] == [None, 400, 400, 400]
    assert mapped.reader_wait == pytest.approx(0.8, abs=0.1)  # its last items were taken before the end
    assert slow.busy == pytest.approx(1)
    assert counted.source_wait == pytest.approx(1)
    assert (snapshot.slowest, source.rate) == (slow, pytest.approx(1))


async def test_a_source_that_ended_early_is_not_shown_as_the_bottleneck(autojump_clock: MockClock) -> None:
    watch = tf.monitor()

    await tf.pipeline(range(10), slowly(), tf.drain(), monitor=watch)

    slowest = watch.snapshot().slowest
    assert slowest is not None
    assert slowest.name == "slowly()"


async def test_a_reader_slower_than_its_paced_source_is_the_bottleneck(autojump_clock: MockClock) -> None:
    @tf.readable
    async def paced() -> AsyncIterator[int]:
        while True:
            yield 1
            await trio.sleep(1)

    watch = tf.monitor()
    with trio.move_on_after(20):
        await tf.pipeline(paced(), tf.map(str), slowly(2), tf.drain(), monitor=watch)

    slowest = watch.snapshot().slowest
    assert slowest is not None
    assert (slowest.name, slowest.busy) == ("slowly(2)", pytest.approx(1))
    assert watch.snapshot().stages[0].busy == pytest.approx(1)  # it sleeps, and waits for no other stage


async def test_a_wait_in_progress_is_counted(autojump_clock: MockClock) -> None:
    watch = tf.monitor()
    source = Source(["a"], then=None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline(source.readable, slowly(0), tf.drain(), monitor=watch))
        await trio.sleep(10)
        first, slow, drained = watch.snapshot().stages
        nursery.cancel_scope.cancel()

    assert (first.items, slow.items, drained.items) == (1, 1, 1)
    assert (slow.source_wait, drained.source_wait) == (pytest.approx(1), pytest.approx(1))


async def test_the_last_stage_shows_what_it_received_and_not_what_waits_for_it(autojump_clock: MockClock) -> None:
    @tf.writable
    async def one_a_second(chunks: tf.ReceiveChannel[bytes]) -> None:
        async for _ in chunks:
            await trio.sleep(1)

    watch = tf.monitor()
    with trio.move_on_after(3.5):
        await tf.pipeline([b"ab"] * 100, one_a_second(), capacity=8, monitor=watch)

    source, sink = watch.snapshot().stages
    assert (sink.items, sink.bytes) == (4, 8)
    assert source.items > sink.items


async def test_snapshots_are_made_at_each_interval_and_at_the_end_of_the_run(autojump_clock: MockClock) -> None:
    watch = tf.monitor("numbers")
    seen = []

    async def look() -> None:
        async for snapshot in watch.snapshots(every=2.0):
            seen.append((round(snapshot.seconds, 3), snapshot.stages[-1].items))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        await tf.pipeline(range(5), slowly(), tf.count(), monitor=watch)

    assert seen == [(2.0, 1), (4.0, 3), (5.0, 5)] or seen[-1] == (5.0, 5)
    assert [seconds for seconds, _ in seen] == [2.0, 4.0, 5.0]


async def test_a_monitor_in_the_middle_shows_what_passes_there(autojump_clock: MockClock) -> None:
    watch: tf.Transform[int, int] = (before := tf.monitor("middle"))

    result = await tf.from_iterable(range(6)).pipe(watch).pipe(slowly()).pipe(tf.collect())

    assert result == list(range(6))
    (stage,) = before.snapshot().stages
    assert (stage.name, stage.items) == ("monitor('middle')", 6)


async def test_a_monitored_run_raises_its_failure_and_its_numbers_stay_available() -> None:
    watch = tf.monitor("broken")
    boom = Boom()

    with pytest.raises(Boom) as caught:
        await tf.pipeline(Source([1, 2], boom).readable, tf.drain(), monitor=watch)

    assert caught.value is boom
    assert watch.snapshot().stages[0].items == 2


class Big(bytearray):
    """An item that a weak reference can watch."""


async def run_to(ending: str, place: str, kept: tf.Transform[Any, Any]) -> list[weakref.ref[Any]]:
    """Run a flow that `kept` observes, and return weak references to the objects that must not stay alive."""

    def function(item: Big) -> Big:
        return item

    async def close(item: Big) -> None:
        if ending == "a failure":
            raise Boom
        if ending == "a cancellation":
            await trio.sleep_forever()

    items = [Big(b"x" * 5000) for _ in range(9)]
    watched = [weakref.ref(thing) for thing in (function, close, *items)]
    sink = tf.first() if ending == "a reader that has enough" else tf.for_each(close)
    with trio.move_on_after(5), contextlib.suppress(Boom):
        if place == "whole run":
            assert isinstance(kept, tf.Monitor)
            await tf.pipeline(items, tf.map(function), tf.buffer(2), sink, monitor=kept, capacity=4)
        else:
            await tf.pipeline(items, tf.map(function), kept, tf.buffer(2), sink, capacity=4)
    return watched


ENDINGS = ["the end", "a failure", "a cancellation", "a reader that has enough"]


@pytest.mark.parametrize("place", ["whole run", "in the middle", "progress"])
async def test_nothing_of_a_finished_run_stays_alive_except_its_numbers(place: str, autojump_clock: MockClock) -> None:
    kept: dict[str, Any] = {
        ending: tf.progress(9, file=io.StringIO()) if place == "progress" else tf.monitor("numbers")
        for ending in ENDINGS
    }

    watched = {ending: await run_to(ending, place, kept[ending]) for ending in ENDINGS}
    gc.collect()

    assert {ending: [ref() for ref in refs if ref() is not None] for ending, refs in watched.items()} == {
        ending: [] for ending in ENDINGS
    }
    if place != "progress":
        for ending in ENDINGS:
            snapshot = kept[ending].snapshot()
            assert snapshot.name == "numbers"
            assert (
                len(snapshot.stages)
                == len(str(kept[ending]).splitlines()) - 2
                == (1 if place == "in the middle" else 4)
            )
            assert snapshot.stages[0].items == (9 if ending == "the end" else pytest.approx(5, abs=4))
            assert all(type(cell) in (str, int, float, NoneType) for stage in snapshot.stages for cell in stage)


async def test_of_two_overlapping_runs_it_keeps_the_numbers_of_the_one_that_started_last(
    autojump_clock: MockClock,
) -> None:
    watch = tf.monitor()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline(range(9), slowly(), tf.drain(), monitor=watch))
        await trio.sleep(1.5)
        await tf.pipeline(range(2), slowly(), tf.drain(), monitor=watch)
        during = watch.snapshot()

    assert watch.snapshot() == during
    assert [stage.items for stage in during.stages] == [2, 2, 2]


async def test_the_table_names_the_stage_that_the_others_wait_for(autojump_clock: MockClock) -> None:
    watch = tf.monitor("job")

    await tf.pipeline([b"x" * 2048] * 4, slowly(), tf.drain(), monitor=watch)

    head, names, *rows = str(watch).splitlines()
    assert head == "job, 4.0 s"
    assert names.split() == ["items", "items/s", "bytes", "channel", "waits", "for", "source", "for", "reader"]
    assert [row.split()[0] for row in rows][1:] == ["slowly()", "drain()"]
    assert [row.endswith("< the others wait for it") for row in rows] == [False, True, False]
    assert "8.0 KiB" in rows[1]


async def test_a_snapshot_can_be_converted_to_json() -> None:
    watch = tf.monitor("numbers")

    assert str(watch) == "numbers, 0.0 s\n  items  items/s  bytes  channel  waits for source  for reader"
    await tf.pipeline(range(3), tf.count(), monitor=watch)

    told = json.loads(json.dumps(watch.snapshot().as_dict()))
    assert (told["name"], [stage["items"] for stage in told["stages"]]) == ("numbers", [3, 3])


def test_wrong_arguments_are_refused_at_once() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="monitor: name must be a str, got 3"):
        tf.monitor(wrong)
    with pytest.raises(TypeError, match=r"monitor must be what monitor\(\) or Inspector\(\) returns, got 3"):
        tf.pipeline([1], tf.count(), monitor=wrong)


async def test_the_interval_of_snapshots_must_be_above_0() -> None:
    with pytest.raises(ValueError, match="every must be above 0, got 0"):
        await anext(tf.monitor().snapshots(every=0))


async def test_a_monitor_before_the_branches_shows_that_the_source_waits_for_one_of_them(
    autojump_clock: MockClock,
) -> None:
    watch = tf.monitor()
    async with tf.broadcast(tf.from_iterable(range(10_000)).pipe(watch), 2) as (read, unread):
        with trio.move_on_after(10):
            await read.pipe(tf.drain())

        (stage,) = watch.snapshot().stages
        assert stage.reader_wait > 0.9
        assert unread.statistics().used == unread.statistics().capacity
