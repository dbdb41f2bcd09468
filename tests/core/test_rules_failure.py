"""R11 to R15: a failure is not wrapped, names its stage, overtakes items, and never passes for an end or a hang-up."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NoReturn

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Sink, Source, passes, passing
from trioflow.testing import check_transform


def fail(item: object) -> NoReturn:
    raise Boom(item)


async def fail_later(item: object) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise Boom(item)


@tf.transform
async def failing(items: AsyncIterable[Any], failure: BaseException) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        raise failure


async def test_R11_a_failure_is_the_same_object_with_a_note() -> None:
    failure = Boom()

    with pytest.raises(Boom) as caught:
        await tf.pipeline([1], tf.map(str), failing(failure), tf.collect())

    assert caught.value is failure
    assert failure.__notes__ == ["in stage 3 of 4: failing(Boom())"]


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_R11_however_a_source_is_read_its_failure_is_raised(consume: Consumer) -> None:
    failure = Boom()

    with pytest.raises(Boom) as caught:
        await consume(Source([], then=failure).readable.pipe(tf.map(str)))

    assert caught.value is failure
    assert failure.__notes__[0].startswith("in stage 1 of ")


@pytest.mark.parametrize(
    ("stage", "note"),
    [
        (tf.map(fail), "in stage 3 of 5: map(fail)"),
        (tf.map(fail_later), "in stage 3 of 5: map(fail_later)"),
        (tf.filter(fail), "in stage 3 of 5: filter(fail)"),
        (tf.flat_map(fail), "in stage 3 of 5: flat_map(fail)"),
        (tf.tap(fail), "in stage 3 of 5: tap(fail)"),
        (tf.scan(lambda state, item: fail(item), 0), "in stage 3 of 5: scan(<lambda>, 0)"),
    ],
)
async def test_R11_the_note_names_the_stage_among_fused_ones(stage: tf.Transform[Any, Any], note: str) -> None:
    with pytest.raises(Boom) as caught:
        await tf.pipeline([1, 2], tf.drop(0), stage, tf.batch(3), tf.collect())

    assert caught.value.__notes__ == [note]


async def test_R11_the_exception_of_a_sink_is_not_wrapped_either() -> None:
    source = Source(itertools.count())

    with pytest.raises(Boom) as caught:
        await source.readable.pipe(tf.for_each(fail))

    assert caught.value.__notes__ == ["in stage 2 of 2: for_each(fail)"]
    assert source.ended == 1


async def test_R11_two_failures_are_a_group() -> None:
    first, second = Boom("sink"), ValueError("cleanup")

    async def source(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            raise second

    with pytest.raises(ExceptionGroup, match="2 stages failed") as caught:
        await tf.Readable(source).pipe(failing(first)).pipe(tf.collect())

    assert caught.value.exceptions == (first, second)
    assert [exc.__notes__ for exc in caught.value.exceptions] == [
        ["in stage 2 of 3: failing(Boom('sink'))"],
        ["in stage 1 of 3: source(), while it was being cancelled"],
    ]


async def test_R11_a_group_that_a_stage_raises_stays_the_same_object() -> None:
    group = ExceptionGroup("of the stage", [Boom(), ValueError()])

    with pytest.raises(ExceptionGroup) as caught:
        await tf.pipeline([1], failing(group), tf.collect())

    assert caught.value is group


async def test_R11_one_object_that_two_stages_raise_is_one_failure() -> None:
    failure = Boom()

    async def source(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            raise failure

    with pytest.raises(Boom) as caught:
        await tf.Readable(source).pipe(failing(failure)).pipe(tf.collect())

    assert caught.value is failure


async def test_R11_a_failure_and_the_errors_it_causes_in_other_tasks_are_one_failure() -> None:
    async def many_senders(output: tf.SendChannel[int]) -> None:
        async def send(n: int) -> None:
            while True:
                await output.send(n)

        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(send, n)

    failure = Boom()
    with pytest.raises(Boom) as caught:
        await tf.pipeline(tf.Readable(many_senders), failing(failure), tf.collect(), capacity=1)

    assert caught.value is failure


async def test_R11_an_interrupt_is_raised_unwrapped() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        await tf.pipeline(Source([1], then=None).readable, failing(KeyboardInterrupt()), tf.collect())

    assert caught.value.__notes__[0].startswith("in stage 2 of 3: failing(")


async def test_R11_a_failing_block_and_a_failing_stage_are_a_group() -> None:
    of_block, of_stage = Boom("block"), Boom("stage")

    async def source(output: tf.SendChannel[int]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise of_stage

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with tf.Readable(source).open():
            await wait_all_tasks_blocked()
            raise of_block

    assert caught.value.exceptions == (of_block, of_stage)


async def test_R11_a_stage_that_raises_the_end_of_another_channel_has_failed() -> None:
    failure = trio.EndOfChannel("of a channel of its own")
    readable = Source([1], then=failure).readable

    async with readable.open() as receive:
        with pytest.raises(trio.EndOfChannel) as looped:
            _ = [item async for item in receive]
    async with readable.open() as receive:
        with pytest.raises(trio.EndOfChannel) as batched:
            _ = [items async for items in receive.batches()]
    async with tf.Duplex(Source([b"a"], then=failure).readable, tf.drain()).open() as stream:
        with pytest.raises(trio.EndOfChannel) as streamed:
            _ = [chunk async for chunk in stream]
    with pytest.raises(trio.EndOfChannel) as again:
        await tf.retry(readable, attempts=1).pipe(tf.collect())

    assert looped.value is batched.value is streamed.value is again.value is failure
    assert await readable.pipe(tf.recover(lambda exc: [exc])).pipe(tf.collect()) == [1, failure]


async def test_R11_a_stage_that_raises_stop_async_iteration_has_failed() -> None:
    failure = StopAsyncIteration()

    async with Source([1], then=failure).readable.open() as receive:
        with pytest.raises(RuntimeError, match="a stage raised StopAsyncIteration") as caught:
            _ = [item async for item in receive]

    assert caught.value.__cause__ is failure


async def test_R11_a_failure_that_the_block_handles_is_not_raised_again() -> None:
    failure = Boom()

    async with Source([1], then=failure).readable.open() as receive:
        await wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(Boom) as caught:
                await receive.receive()
            assert caught.value is failure


@pytest.mark.parametrize("cut", [0, 1, 5])
async def test_R12_a_failure_overtakes_buffered_items(cut: int) -> None:
    """The source sends everything and fails before the sink may continue, so the sink gets no more items and no end."""
    allowed = trio.Event()
    sink = Sink()

    async def waits(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        await allowed.wait()
        async for item in source:
            await output.send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_then_set, allowed)
        with pytest.raises(Boom):
            await Source(range(cut), then=Boom()).readable.pipe(tf.Transform(waits)).pipe(sink.writable)

    assert sink.got == []
    assert sink.how == "Cancelled"


async def wait_then_set(event: trio.Event) -> None:
    await wait_all_tasks_blocked()
    event.set()


async def test_R12_a_reader_outside_gets_the_failure_before_buffered_items() -> None:
    async with Source([1, 2, 3], then=Boom()).readable.open() as receive:
        await wait_all_tasks_blocked()

        with pytest.raises(Boom):
            await receive.receive()


@settings(max_examples=60)
@given(
    before=st.integers(0, 3),
    stages=st.lists(st.sampled_from(["sync", "generator", "channels"]), min_size=1, max_size=4),
    at=st.integers(0, 4),
    after=st.integers(0, 6),
    capacity=st.sampled_from([1, 2, 256]),
    late=st.integers(0, 4),
)
async def test_R12_after_a_failure_no_item_no_end_and_no_flush_reaches_any_stage(
    before: int, stages: list[str], at: int, after: int, capacity: int, late: int
) -> None:
    """Stage `at` fails at item `after`, `late` scheduler passes later; no stage may receive anything after that."""
    failed: list[BaseException] = []
    seen_late: list[object] = []

    def note(what: object) -> None:
        if failed:
            seen_late.append(what)

    def synchronous(item: int) -> int:
        note(item)
        return item

    @tf.transform
    async def generator(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            note(item)
            yield item
        note("flush")

    async def channels(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async for item in source:
            note(item)
            await output.send(item)
        note("flush")

    async def fails(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async for item in source:
            if item == after:
                break
            await output.send(item)
        await passes(late)
        failed.append(Boom())
        raise failed[0]

    made: dict[str, Any] = {"sync": tf.map(synchronous), "generator": generator(), "channels": tf.Transform(channels)}
    chain = [made[name] for name in stages]
    chain.insert(min(at, len(chain)), tf.Transform(fails))
    sink = Sink()

    with pytest.raises(Boom) as caught:
        await tf.pipeline(range(20), *chain, sink.writable, capacity=capacity)

    assert [caught.value] == failed
    assert seen_late == []
    assert sink.how in ("Cancelled", "HangUp", "not run")
    assert sink.got == list(range(len(sink.got)))
    assert len(sink.got) <= after


async def test_R13_a_sink_is_cancelled_when_its_writer_fails() -> None:
    sink = Sink()

    async with trio.open_nursery():
        with pytest.raises(Boom):  # noqa: PT012
            async with sink.writable.open() as send:
                await send.send(1)
                await wait_all_tasks_blocked()
                raise Boom

    assert (sink.got, sink.how) == ([1], "Cancelled")


async def test_R13_a_failed_run_breaks_the_channel_it_sends_to_instead_of_ending_it() -> None:
    send, receive = tf.open_channel[int]()

    with pytest.raises(Boom):
        await Source([1], then=Boom()).readable.pipe(tf.to_channel(send))

    with pytest.raises(trio.BrokenResourceError, match="the sender has failed"):
        await receive.receive()


async def test_R13_a_failed_run_does_not_end_the_byte_stream_it_writes_to_gracefully() -> None:
    how = []

    class Stream(trio.abc.SendStream):
        async def send_all(self, data: Any) -> None:
            await trio.lowlevel.checkpoint()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            try:
                await trio.lowlevel.checkpoint()
                how.append("gracefully")
            except trio.Cancelled:
                how.append("forcefully")
                raise

    with pytest.raises(Boom):
        await Source([b"x"], then=Boom()).readable.pipe(tf.to_stream(Stream()))
    await tf.from_iterable(b"x").pipe(tf.to_stream(Stream()))

    assert how == ["forcefully", "gracefully"]


async def test_R13_a_source_that_aborts_its_output_fails_the_run() -> None:
    cause = Boom("why")

    async def aborting(output: tf.SendChannel[int]) -> None:
        await output.send(1)
        output.abort(cause)

    for consume in CONSUMERS[:2]:
        with pytest.raises(trio.BrokenResourceError, match="the sender has failed") as caught:
            await consume(tf.Readable(aborting))
        assert caught.value.__cause__ is cause


@pytest.mark.parametrize("before", [(), (tf.passthrough(),), (passing(),), (passing(), tf.passthrough(), passing())])
@pytest.mark.parametrize("arrives", [True, False])
async def test_R13_a_writer_that_aborts_its_channel_cancels_every_stage_after_it(
    before: tuple[tf.Transform[int, int], ...], *, arrives: bool
) -> None:
    sink = Sink()
    chain = sink.writable
    for stage in before:
        chain = stage.pipe(chain)

    async with chain.open() as send:
        await send.send(1)
        if arrives:
            await wait_all_tasks_blocked()
        send.abort()

    assert sink.how in ("Cancelled", "HangUp", "not run")


async def test_R13_what_is_sent_after_another_sender_has_aborted_the_channel_is_not_lost_without_an_error() -> None:
    async def fill(sink: tf.Writable[object, object]) -> None:
        async with sink.open() as send:
            with pytest.raises(Boom):
                await Source([1], then=Boom()).readable.pipe(tf.to_channel(send.clone()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send.send, 2)

    with pytest.raises(ExceptionGroup) as caught:
        await fill(passing().pipe(Sink().writable))

    assert caught.group_contains(trio.BrokenResourceError, match="the sender has failed")


async def test_R15_a_users_own_broken_socket_surfaces() -> None:
    near, far = memory_stream_pair()
    await far.aclose()

    with pytest.raises(trio.BrokenResourceError) as caught:
        await tf.from_iterable([b"x"]).pipe(tf.to_stream(near))

    assert caught.value.__notes__[0].startswith("in stage 2 of 2: to_stream(")


async def test_R15_a_broken_channel_of_the_users_own_surfaces_even_if_trioflow_made_it() -> None:
    send, receive = tf.open_channel[int]()
    receive.close()

    async def forwards(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async for item in source:
            await send.send(item)

    with pytest.raises(trio.BrokenResourceError, match="the last reader of this channel has closed") as caught:
        await tf.from_iterable([1]).pipe(tf.Transform(forwards)).pipe(tf.collect())

    assert caught.value.__notes__ == ["in stage 2 of 3: forwards()"]
    with pytest.raises(trio.BrokenResourceError):
        await tf.from_iterable([1]).pipe(tf.to_channel(send))


async def test_R15_a_hang_up_propagates_through_a_run_inside_a_stage() -> None:
    async def inner(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        await tf.from_iterable(source).pipe(passing()).pipe(tf.to_channel(output))

    got = await tf.pipeline(itertools.count(), tf.Transform(inner), passing(), tf.take(2), tf.collect())

    assert got == [0, 1]


async def test_R15_a_hang_up_is_removed_from_a_group_and_the_failure_stays() -> None:
    async def mixed(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
        async def send() -> None:
            with trio.CancelScope(shield=True):
                while True:
                    await output.send(1)

        async def fails() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise Boom

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(fails)

    with pytest.raises(ExceptionGroup) as caught:
        await tf.pipeline([1], tf.Transform(mixed), tf.take(1), tf.collect())

    assert [type(exc) for exc in caught.value.exceptions] == [Boom]


async def test_R11_a_failure_keeps_its_context_even_if_the_block_was_cancelled() -> None:
    async def source(output: tf.SendChannel[int]) -> None:
        try:
            raise ValueError("first")
        finally:
            raise Boom("in the cleanup of that")

    with pytest.raises(Boom) as caught, trio.CancelScope() as scope:  # noqa: PT012
        async with tf.Readable(source).open():
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("shape", ["run", "opened", "written"])
def test_R11_a_ctrl_c_is_raised_unwrapped_and_closes_everything(shape: str) -> None:
    source, sink = Source([1], then=None), Sink()

    async def interrupt() -> None:
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(interrupt)
        if shape == "run":
            await source.readable.pipe(passing()).pipe(sink.writable)
        elif shape == "opened":
            async with source.readable.pipe(passing()).open() as receive:
                async for _ in receive:
                    pass
        else:
            async with passing().pipe(sink.writable).open():
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert source.started == source.ended
    assert sink.how in ("KeyboardInterrupt", "Cancelled", "not run")


async def test_R11_a_traceback_ends_in_the_users_frames_and_has_few_of_ours() -> None:
    def divide(n: int) -> float:
        return 1 / n

    @tf.transform
    async def divided(items: AsyncIterable[int]) -> AsyncIterator[float]:
        async for item in items:
            yield divide(item)

    async def divide_later(n: int) -> float:
        return divide(n)

    async def opened(readable: tf.Readable[Any]) -> None:
        async with readable.open() as receive:
            async for _ in receive:
                pass

    async def branch_of(readable: tf.Readable[Any]) -> None:
        async with tf.broadcast(readable, 1) as [branch]:
            await branch.pipe(tf.drain())

    async def resumed(readable: tf.Readable[Any]) -> None:
        await readable.pipe(tf.recover(lambda _: (), on=OSError)).pipe(tf.drain())

    async def into_an_open_writable(stage: tf.Transform[Any, Any]) -> None:
        async with stage.pipe(tf.drain()).open() as send:
            await send.send(0)

    numbers = tf.from_iterable([1, 0])
    stages = [
        tf.map(divide),
        divided(),
        tf.map_async(divide_later),
        tf.map_in_threads(divide),
        tf.flat_map_merge(lambda n: [divide(n)]),
    ]
    ways: list[Callable[[tf.Transform[Any, Any]], Awaitable[Any]]] = [
        lambda stage: numbers.pipe(stage).pipe(tf.drain()),
        lambda stage: tf.pipeline(numbers, stage, tf.drain(), monitor=tf.monitor()),
        lambda stage: tf.merge(tf.concat(tf.retry(numbers.pipe(stage), attempts=1))).pipe(tf.drain()),
        lambda stage: opened(numbers.pipe(stage)),
        lambda stage: branch_of(numbers.pipe(stage)),
        lambda stage: resumed(numbers.pipe(stage)),
        into_an_open_writable,
    ]
    for stage in stages:
        for run in ways:
            with pytest.raises(ZeroDivisionError) as caught:
                await run(stage)

            frames = frames_of(caught.value)
            assert frames[-1] == ("divide", False)
            assert sum(is_ours for _, is_ours in frames) <= 3
            assert caught.value.__context__ is None


@pytest.mark.parametrize("sink", [tf.drain(), tf.lines().pipe(tf.drain()), tf.write_file("missing too", atomic=False)])
async def test_R11_the_traceback_of_a_missing_file_has_few_of_our_frames(sink: tf.Writable[Any, Any]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await tf.read_file("missing").pipe(sink)

    assert sum(is_ours for _, is_ours in frames_of(caught.value)) <= 3
    assert len(traceback.format_exception(caught.value)) < 10


async def test_R11_two_failing_stages_show_their_frames_and_no_cancellation() -> None:
    async def source(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            raise OSError("cleanup")

    with pytest.raises(ExceptionGroup) as caught:
        await tf.Readable(source).pipe(failing(Boom("sink"))).pipe(tf.drain())

    for each in (caught.value, *caught.value.exceptions):
        assert sum(is_ours for _, is_ours in frames_of(each)) <= 3
    shown = "".join(traceback.format_exception(caught.value))
    assert "trio.Cancelled" not in shown
    assert isinstance(caught.value.exceptions[1].__context__, trio.Cancelled)  # it stays reachable for debugging


async def test_R11_the_cause_of_a_failure_keeps_its_traceback() -> None:
    def fail(_: object) -> None:
        try:
            raise LookupError("the cause")
        except LookupError as exc:
            raise Boom("the failure") from exc

    with pytest.raises(Boom) as caught:
        await tf.from_iterable([1]).pipe(tf.for_each(fail))

    assert isinstance(caught.value.__cause__, LookupError)
    assert frames_of(caught.value.__cause__) == [("fail", False)]


def frames_of(exc: BaseException) -> list[tuple[str, bool]]:
    """Return the name of each frame in a traceback, and whether it belongs to trioflow."""
    return [(frame.name, "/trioflow/" in frame.filename) for frame in traceback.extract_tb(exc.__traceback__)]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have its attributes set, as the exceptions of generated clients do."""

    code: int


def refuse(_: object) -> int:
    raise Frozen(403)


BROKEN = tf.from_iterable([1]).pipe(tf.map(refuse))


async def _in_a_block() -> None:
    async with tf.from_iterable([1]).open():
        raise Frozen(403)


async def _in_a_writer() -> None:
    async with tf.collect().open():
        raise Frozen(403)


async def _in_a_file_that_is_written() -> None:
    async with tf.write_file(os.devnull).open():
        raise Frozen(403)


async def _in_a_process() -> None:
    async with tf.process(["cat"]).open():
        raise Frozen(403)


class _Refuses:
    """An endless iterator that raises when it is closed."""

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return 1

    def close(self) -> None:
        raise Frozen(403)


@tf.readable
async def _refuses_at_the_end() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
    finally:
        raise Frozen(403)


async def _in_the_kit() -> None:
    await check_transform(lambda: tf.map(refuse), [1], [1])


async def _in_a_broadcast() -> None:
    async with tf.broadcast(tf.from_iterable([1]), 2):
        raise Frozen(403)


async def _by_a_receive() -> None:
    async with BROKEN.open() as receive:
        await receive.receive()


@pytest.mark.parametrize(
    "run",
    [
        lambda: BROKEN.pipe(tf.collect()),
        lambda: BROKEN.pipe(tf.map_async(trio.lowlevel.checkpoint)).pipe(tf.collect()),
        lambda: tf.merge(BROKEN, tf.ticks(60)).pipe(tf.collect()),
        lambda: tf.concat(BROKEN).pipe(tf.collect()),
        lambda: tf.retry(BROKEN, attempts=2, initial=0.01).pipe(tf.collect()),
        lambda: tf.from_iterable([1]).pipe(tf.for_each(refuse)),
        _in_a_block,
        _in_a_writer,
        _in_a_broadcast,
        _by_a_receive,
        _in_a_file_that_is_written,
        _in_a_process,
        _in_the_kit,
        lambda: tf.pipeline([1], tf.map(refuse), tf.drain(), monitor=tf.monitor()),
        lambda: BROKEN.pipe(tf.monitor()).pipe(tf.drain()),
        lambda: tf.from_iterable([1]).pipe(tf.map_in_threads(refuse)).pipe(tf.drain()),
        lambda: tf.from_iterable([1]).pipe(tf.json_lines(default=refuse)).pipe(tf.for_each(refuse)),
        lambda: BROKEN.pipe(tf.recover(refuse)).pipe(tf.drain()),
        lambda: tf.from_iterable(_Refuses()).pipe(tf.first()),
        lambda: tf.concat(tf.repeat(1), tf.from_iterable(_Refuses())).pipe(tf.first()),
        lambda: _refuses_at_the_end().pipe(tf.first()),
        lambda: tf.read_file(__file__).pipe(tf.for_each(refuse)),
        lambda: tf.from_iterable([b"1"]).pipe(tf.process(["cat"])).pipe(tf.for_each(refuse)),
        lambda: BROKEN.pipe(tf.write_file(os.devnull)),
    ],
    ids=[
        *("map", "next", "merge", "concat", "retry", "sink", "block", "writer", "broadcast", "receive", "file"),
        *("process", "kit", "monitored", "monitor", "threads", "json", "recover", "closed", "unreached", "generator"),
        *("reader of a file", "reader of a process", "writer of a file"),
    ],
)
async def test_R11_an_exception_that_rejects_attributes_is_raised_itself(
    run: Callable[[], Awaitable[object]], autojump_clock: MockClock
) -> None:
    with pytest.raises(Frozen) as caught:
        await run()

    assert caught.value.code == 403


async def test_R11_an_exception_that_rejects_attributes_can_be_noted_and_recovered_from() -> None:
    with pytest.raises(Frozen) as caught:
        await BROKEN.pipe(tf.collect())

    assert caught.value.__notes__ == ["in stage 2 of 3: map(refuse)"]
    assert await BROKEN.pipe(tf.recover(lambda exc: [exc], on=Frozen)).pipe(tf.first()) == Frozen(403)


async def test_R11_failures_to_close_two_live_ends_are_a_group_and_hide_no_other_failure() -> None:
    def ends() -> list[tf.Readable[int]]:
        return [tf.from_iterable(_Refuses()) for _ in range(2)]

    with pytest.raises(ExceptionGroup, match="2 live ends failed"):
        await tf.concat(tf.repeat(1), *ends()).pipe(tf.first())

    boom = Boom()
    with pytest.raises(Boom) as caught:
        await tf.concat(tf.failed(boom), *ends()).pipe(tf.first())
    assert caught.value is boom
    assert caught.value.__notes__.count(f"and then: {Frozen(403)!r}") == 1  # both are the same


async def test_R11_one_exception_that_several_runs_raise_is_noted_once() -> None:
    failure = Boom()
    for _ in range(3):
        with pytest.raises(Boom):
            await tf.failed(failure).pipe(tf.collect())

    assert failure.__notes__ == ["in stage 1 of 2: failed(Boom())"]


async def test_hundreds_of_readables_can_be_merged() -> None:
    many = tf.merge(*(tf.from_iterable([number]) for number in range(700)))

    assert sorted(await many.pipe(tf.collect())) == [*range(700)]
