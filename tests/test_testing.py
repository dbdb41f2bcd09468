"""The conformance kit: it passes stages that follow the rules, and names the rule that a stage breaks."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioflow as tf
from trioflow.testing import check_readable, check_transform, check_writable

Source = tf.ReceiveChannel[Any]
Output = tf.SendChannel[Any]


@tf.transform
async def doubled(items: AsyncIterable[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item * 2


async def test_a_generator_that_follows_the_rules_passes() -> None:
    @tf.readable
    async def numbers() -> AsyncIterator[int]:
        for n in range(600):
            yield n

    await check_readable(numbers, expected=range(600))
    await check_transform(doubled, range(5), [0, 2, 4, 6, 8], holds=1)


async def test_an_endless_source_passes_without_an_expectation(autojump_clock: MockClock) -> None:
    @tf.readable
    async def beats() -> AsyncIterator[float]:
        while True:
            yield trio.current_time()
            await trio.sleep(1)

    await check_readable(beats)


async def test_a_source_that_runs_once_passes() -> None:
    await check_readable(lambda: tf.from_iterable(iter([1, 2])), expected=[1, 2])


async def test_a_sink_that_stops_early_passes() -> None:
    await check_writable(tf.first, [1, 2, 3], 1)


async def test_the_output_may_be_cut_into_any_chunks_if_they_join_to_the_expected() -> None:
    await check_transform(lambda: tf.map(bytes.upper), [b"ab", b"c"], b"ABC", is_stream=True)

    with pytest.raises(AssertionError, match=r"^R6: items joined, capacity 1: "):
        await check_transform(lambda: tf.map(len), [b"ab", b"c"], [2, 1], is_stream=True)


async def test_the_factory_must_return_the_kind_of_stage_that_is_checked() -> None:
    with pytest.raises(TypeError, match="the factory must return a Readable, got <Writable collect"):
        await check_readable(tf.collect)  # type: ignore[arg-type]


async def test_R1_a_value_that_starts_something_is_reported() -> None:
    scope = trio.CancelScope()

    async def eager() -> None:
        with scope:
            await trio.sleep_forever()

    def make() -> tf.Readable[int]:
        trio.lowlevel.spawn_system_task(eager)
        return tf.from_iterable([1])

    with pytest.raises(AssertionError, match=r"^R1: .* started a task when it was made"):
        await check_readable(make, expected=[1])
    scope.cancel()


async def test_R2_a_task_left_running_is_reported() -> None:
    scope = trio.CancelScope()

    async def stray() -> None:
        with scope:
            await trio.sleep_forever()

    async def spawning(output: Output) -> None:
        trio.lowlevel.spawn_system_task(stray)
        await output.send(1)

    with pytest.raises(AssertionError, match=r"^R2: .*: tasks are left running: .*stray"):
        await check_readable(lambda: tf.Readable(spawning), expected=[1])
    scope.cancel()


async def test_R2_a_descriptor_left_open_is_reported(tmp_path: Path) -> None:
    (tmp_path / "left").touch()
    opened = []

    async def opening(output: Output) -> None:
        opened.append(os.open(tmp_path / "left", os.O_RDONLY))
        await output.send(1)

    with pytest.raises(AssertionError, match=r"^R2: .*: left open: .*/left"):
        await check_readable(lambda: tf.Readable(opening), expected=[1])
    for fd in opened:
        os.close(fd)


async def test_R3_a_wrong_result_of_a_sink_is_reported() -> None:
    with pytest.raises(AssertionError, match=r"^R3: items of a plain iterable, capacity 1: got 2, expected 3"):
        await check_writable(tf.count, "ab", 3)


async def test_R4_a_value_that_remembers_its_last_run_is_reported() -> None:
    def make() -> tf.Readable[int]:
        counter = itertools.count()

        async def counting(output: Output) -> None:
            await output.send(next(counter))

        return tf.Readable(counting)

    with pytest.raises(AssertionError, match=r"^R4: run a second time: got \[1\], expected \[0\]"):
        await check_readable(make, expected=[0])


async def test_R6_a_stage_whose_result_depends_on_the_capacity_is_reported() -> None:
    async def batches(source: Source, output: Output) -> None:
        async for items in source.batches():
            await output.send(len(items))

    with pytest.raises(AssertionError, match=r"^R6: items of a plain iterable, capacity 2: got "):
        await check_transform(lambda: tf.Transform(batches), [7, 7, 7], [1, 1, 1])


async def test_R7_a_stage_that_holds_too_much_is_reported() -> None:
    @tf.transform
    async def hoard(items: AsyncIterable[int]) -> AsyncIterator[int]:
        for item in [item async for item in items]:
            yield item

    await check_transform(hoard, [1, 2, 3], [1, 2, 3])

    with pytest.raises(AssertionError, match=r"^R7: .* more than 34 items were taken from the source"):
        await check_transform(hoard, [1, 2, 3], [1, 2, 3], holds=1)


async def test_R11_a_stage_that_converts_a_failure_is_reported() -> None:
    async def converting(source: Source, output: Output) -> None:
        try:
            async for item in source:
                await output.send(item)
        except BaseException as exc:
            raise ValueError("converted") from exc

    with pytest.raises(AssertionError, match=r"^R11: .*the run raised .*ValueError"):
        await check_transform(lambda: tf.Transform(converting), [1], [1])


async def test_R11_a_source_that_converts_its_cancellation_is_reported() -> None:
    async def converting(output: Output) -> None:
        try:
            await output.send(1)
            await output.send(2)
        except trio.Cancelled:
            raise ValueError("converted") from None

    with pytest.raises(AssertionError, match=r"^R11: cancelled .*: it raised ValueError"):
        await check_readable(lambda: tf.Readable(converting), expected=[1, 2])


async def test_R11_a_stage_that_suppresses_its_cancellation_is_reported() -> None:
    async def swallowing(source: Source, output: Output) -> None:
        try:
            async for item in source:
                await output.send(item)
        except trio.Cancelled:
            pass

    async def stubborn(output: Output) -> None:
        try:
            for n in range(3):
                await output.send(n)
        except trio.Cancelled:
            pass

    complaint = "^R11: cancelled while it waits .*: the stage swallowed its Cancelled and returned"
    with pytest.raises(AssertionError, match=complaint):
        await check_transform(lambda: tf.Transform(swallowing), [1], [1])
    with pytest.raises(AssertionError, match=complaint):
        await check_readable(lambda: tf.Readable(stubborn), expected=[0, 1, 2])


async def test_R13_a_sink_that_mistakes_a_failure_for_the_end_is_reported() -> None:
    async def careless(source: Source) -> int:
        count = 0
        try:
            async for _ in source:
                count += 1
        except BaseException:  # noqa: BLE001 - what the kit must see
            pass
        return count

    with pytest.raises(
        AssertionError, match=r"^R13: a source that fails after 0 items: the sink treated the failure as the end"
    ):
        await check_writable(lambda: tf.Writable(careless), [1, 2], 2)


async def test_R16_a_stage_that_does_not_end_is_reported(autojump_clock: MockClock) -> None:
    async def deaf(output: Output) -> None:
        await output.send(1)
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    with pytest.raises(AssertionError, match=r"^R16: .*: it did not end within 2 s"):
        await check_readable(lambda: tf.Readable(deaf), expected=[1], limit=2)


async def test_an_error_of_the_stage_itself_names_the_case() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await check_transform(lambda: tf.map(lambda n: 1 // n), [0], [0])

    assert caught.value.__notes__ == [
        "in stage 2 of 3: map(<lambda>)",
        "in the case: items of a plain iterable, capacity 1",
    ]
