"""R1 to R4: nothing runs before `await`, a run returns its result and leaves nothing, and may run again."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Sink, Source, tasks


async def test_R1_nothing_runs_before_await() -> None:
    source, sink = Source([1]), Sink()

    readable = source.readable.pipe(tf.map(str))
    block = readable.open()
    run = readable.pipe(sink.writable)
    other = tf.pipeline(source.readable, sink.writable)
    await wait_all_tasks_blocked()

    assert (source.started, sink.how) == (0, "not run")
    other.close()
    await run
    assert (source.started, sink.how) == (1, "the end")
    async with block as receive:
        assert await receive.receive() == "1"


async def test_R2_what_a_run_held_is_freed_at_its_end_without_the_garbage_collector() -> None:
    class Item:
        pass

    @tf.readable
    async def items() -> AsyncIterator[Item]:
        item = Item()
        alive.append(weakref.ref(item))
        yield item

    alive: list[weakref.ref[Item]] = []
    await tf.pipeline(items(), tf.tap(lambda item: None), tf.batch(2), tf.collect())  # creates what is made once
    alive.clear()
    gc.collect()
    gc.disable()
    try:
        await tf.pipeline(items(), tf.tap(lambda item: None), tf.batch(2), tf.collect())
        async with items().pipe(tf.batch(2)).open() as batches:
            assert len(await batches.receive()) == 1

        assert [item() for item in alive] == [None, None]
        assert gc.collect() < 10
    finally:
        gc.enable()


async def test_R2_what_a_stage_that_is_ended_early_held_is_free_without_the_collector() -> None:
    class Item:
        pass

    def items() -> Iterator[Item]:
        while True:
            item = Item()
            alive.append(weakref.ref(item))
            yield item

    async def pass_on(source: tf.ReceiveChannel[Item], output: tf.SendChannel[Item]) -> None:
        async for item in source:
            await output.send(item)

    alive: list[weakref.ref[Item]] = []
    flow = tf.from_iterable(iter(items()))
    gc.collect()
    gc.disable()
    try:
        await tf.pipeline(flow, tf.tap(lambda item: None), tf.Transform(pass_on), tf.take(2), tf.drain(), capacity=2)

        assert len(alive) > 1
        assert not any(item() for item in alive)
    finally:
        gc.enable()


async def test_R1_an_iterable_is_not_touched_before_await() -> None:
    taken = []

    def items() -> Any:
        taken.append(1)
        yield 1

    class Items:
        def __iter__(self) -> Any:
            return items()

    tf.from_iterable(Items()).pipe(tf.map(str)).pipe(tf.collect()).close()

    assert taken == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.take(-1), ValueError, "n must be at least 0, got -1"),
        (lambda: tf.take(1.5), TypeError, "n must be an int, got 1.5"),
        (lambda: tf.take(True), TypeError, "n must be an int, got True"),
        (lambda: tf.drop(-2), ValueError, "n must be at least 0, got -2"),
        (lambda: tf.batch(0), ValueError, "size must be at least 1, got 0"),
        (lambda: tf.batch("x"), TypeError, "size must be an int, got 'x'"),
        (lambda: tf.batch(2, within=0), ValueError, "within must be above 0, got 0"),
        (lambda: tf.batch(2, within="x"), TypeError, "within must be a number, got 'x'"),
        (lambda: tf.map(3), TypeError, "map expects a function, got 3"),
        (lambda: tf.filter(None), TypeError, "filter expects a function, got None"),
        (lambda: tf.scan([], 0), TypeError, r"scan expects a function, got \[\]"),
        (lambda: tf.join(3), TypeError, "join expects a str or bytes to put between chunks, got int 3"),
        (lambda: tf.from_iterable(3), TypeError, "got int 3"),
        (lambda: tf.to_channel("x"), TypeError, "to_channel expects a trio.abc.SendChannel, got str 'x'"),
        (lambda: tf.to_stream(3), TypeError, "to_stream expects a trio.abc.SendStream, got int 3"),
        (lambda: tf.Readable(3), TypeError, "Readable expects an async function over channels, got 3"),
        (lambda: tf.Duplex(tf.collect(), tf.collect()), TypeError, "Duplex expects a Readable first, got Writable"),
        (lambda: tf.Duplex(tf.from_iterable([]), 3), TypeError, "Duplex expects a Writable second, got int 3"),
        (lambda: tf.Duplex.from_stream(3), TypeError, "expects a trio.abc.Stream, got int 3"),
        (lambda: tf.from_iterable([]).open(capacity=0), ValueError, "capacity must be at least 1, got 0"),
        (lambda: tf.collect().open(capacity=0.5), TypeError, "capacity must be an int or math.inf, got 0.5"),
        (lambda: tf.pipeline([], tf.collect(), capacity=-1), ValueError, "capacity must be at least 1, got -1"),
        (lambda: tf.from_iterable([]).pipe(3), TypeError, "pipe expects a Transform, a Duplex or a Writable, got int 3"),
        (lambda: tf.from_iterable([]).pipe(tf.collect), TypeError, "got the function collect; call it first"),
        (lambda: tf.map(str).pipe([]), TypeError, "pipe expects a Transform, a Duplex or a Writable, got list"),
        (lambda: tf.pipeline([]), TypeError, "pipeline expects at least a source and a sink, got 1 stages"),
        (lambda: tf.pipeline([], tf.map(str)), TypeError, "nothing would read what it sends"),
        (lambda: tf.pipeline(3, tf.collect()), TypeError, "a stream must begin with a Readable, .* got int 3"),
        (
            lambda: tf.pipeline("access.log", tf.collect()),
            TypeError,
            r"pipeline expects a source first, got str 'access.log'; write read_file\(...\) .*, or \[...\] around it",
        ),
        (lambda: tf.pipeline(b"a", tf.collect()), TypeError, "got bytes b'a'; write read_file"),
        (lambda: tf.pipeline(bytearray(b"a"), tf.collect()), TypeError, "got bytearray b'a'; write"),
        (lambda: tf.pipeline(Path("a"), tf.collect()), TypeError, "got PosixPath PosixPath\\('a'\\); write"),
        (lambda: tf.pipeline([], 3), TypeError, "a pipeline must end in a Writable, .* got int 3"),
        (lambda: tf.pipeline([], tf.collect(), tf.collect()), TypeError, "the middle of a pipeline expects"),
        (lambda: tf.open_channel(0), ValueError, "capacity must be at least 1, got 0"),
        (lambda: tf.open_channel("x"), TypeError, "capacity must be an int or math.inf, got 'x'"),
        (lambda: tf.open_channel(overflow="spill"), ValueError, "overflow must be 'wait', .* got 'spill'"),
    ],
)  # fmt: skip
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_R2_a_run_that_has_returned_leaves_nothing_open_or_running(consume: Consumer) -> None:
    source = Source(range(5))
    before = tasks()

    async def lingers(receive: tf.ReceiveChannel[int], send: tf.SendChannel[int]) -> None:
        try:
            async for item in receive:
                await send.send(item)
        finally:
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()

    got = await consume(source.readable.pipe(tf.Transform(lingers)).pipe(tf.map(lambda n: n)))

    assert got == list(range(5))[: len(got)]
    assert (source.started, source.ended) == (1, 1)
    assert tasks() == before


async def test_R2_each_stage_is_a_task_and_adjacent_synchronous_ones_share_one() -> None:
    before = tasks()

    async def passing(receive: tf.ReceiveChannel[int], send: tf.SendChannel[int]) -> None:
        async for item in receive:
            await send.send(item)

    source = Source([1], then=None)
    plain = source.readable.pipe(tf.map(str)).pipe(tf.filter(str)).pipe(tf.tap(str))
    async with plain.pipe(tf.Transform(passing)).pipe(tf.take(5)).open() as receive:
        await receive.receive()

        assert len(tasks() - before) == 4  # the source; map, filter and tap; passing; take


@pytest.mark.parametrize("is_open", [False, True])
async def test_R2_stages_start_in_order_from_source_to_sink(is_open: bool) -> None:
    begun: list[int] = []

    def stage(number: int) -> tf.Transform[int, int]:
        async def run(receive: tf.ReceiveChannel[int], send: tf.SendChannel[int]) -> None:
            begun.append(number)
            async for item in receive:
                await send.send(item)

        return tf.Transform(run)

    readable = tf.from_iterable([1]).pipe(stage(0)).pipe(stage(1)).pipe(stage(2)).pipe(stage(3))
    for _ in range(8):  # Trio starts new tasks in either order, at random
        if is_open:
            async with readable.open() as receive:
                assert await receive.receive() == 1
        else:
            assert await readable.pipe(tf.first()) == 1

    assert begun == [0, 1, 2, 3] * 8


async def test_R2_a_run_waits_for_cleanup_that_takes_its_time(autojump_clock: MockClock) -> None:
    async def slow_to_close(output: tf.SendChannel[int]) -> None:
        try:
            await output.send(1)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(7)

    assert await tf.Readable(slow_to_close).pipe(tf.first()) == 1
    assert trio.current_time() == pytest.approx(7)


async def test_R3_a_run_returns_what_its_sink_returned() -> None:
    given = object()

    async def sink(source: tf.ReceiveChannel[Any]) -> object:
        await source.receive()
        return given

    assert await tf.from_iterable([1]).pipe(tf.Writable(sink)) is given
    assert await tf.pipeline([1], tf.map(str), tf.map(str).pipe(tf.Writable(sink))) is given
    assert await tf.pipeline([1, 2], tf.count()) == 2


async def test_R4_a_value_can_run_again_and_several_times_at_once() -> None:
    @tf.transform
    async def numbered(items: tf.ReceiveChannel[str]) -> AsyncIterator[str]:
        count = 0
        async for item in items:
            count += 1
            yield f"{count} {item}"

    readable = tf.from_iterable("abc").pipe(tf.flat_map(list)).pipe(numbered()).pipe(tf.batch(2))
    results = []

    async def run() -> None:
        results.append(await readable.pipe(tf.collect()))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)
    await run()

    assert results == [[["1 a", "2 b"], ["3 c"]]] * 4


async def test_R4_a_generator_runs_once_and_a_second_run_says_so() -> None:
    readable = tf.from_iterable(n for n in range(3))

    assert await readable.pipe(tf.collect()) == [0, 1, 2]
    with pytest.raises(trio.ClosedResourceError, match="generator can only run once, and has already run"):
        await readable.pipe(tf.collect())


async def test_R4_live_channels_and_streams_run_once() -> None:
    send, receive = tf.open_channel[int]()
    far_end, stream = memory_stream_pair()
    sink = tf.to_channel(send)
    source = tf.from_iterable(receive)
    duplex = tf.Duplex.from_stream(stream)
    await far_end.send_eof()

    assert await tf.from_iterable([1]).pipe(sink) == 1
    assert await source.pipe(tf.collect()) == [1]
    assert await duplex.pipe(tf.collect()) == []
    for again in (tf.from_iterable([1]).pipe(sink), source.pipe(tf.collect()), duplex.pipe(tf.collect())):
        with pytest.raises(trio.ClosedResourceError, match="can only run once, and has already run"):
            await again
    await duplex.aclose()


async def test_R4_a_live_source_is_closed_by_its_run() -> None:
    closed = []

    async def live() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append("async generator")

    def plain() -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.append("generator")

    send, receive = trio.open_memory_channel[int](0)
    send.close()

    assert await tf.from_iterable(live()).pipe(tf.first()) == 1
    assert await tf.from_iterable(plain()).pipe(tf.take(1)).pipe(tf.collect()) == [1]
    assert await tf.from_iterable(receive).pipe(tf.collect()) == []
    assert closed == ["async generator", "generator"]
    with pytest.raises(trio.ClosedResourceError):
        receive.receive_nowait()


async def test_R4_a_value_can_run_again_after_a_failed_run() -> None:
    source = Source([1], then=Boom())
    readable = source.readable.pipe(tf.map(str))

    for _ in range(2):
        with pytest.raises(Boom):
            await readable.pipe(tf.collect())
    source.then = "end"

    assert await readable.pipe(tf.collect()) == ["1"]


class Opened:
    """Makes endless iterators, which record that they were closed, or raise when closed."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.now = 0
        self._failure = failure

    def __call__(self, item: object) -> Iterator[object]:
        self.now += 1
        try:
            while True:
                yield item
        finally:
            self.now -= 1
            if self._failure is not None:
                raise self._failure

    async def later(self, item: object) -> Iterator[object]:
        return self(item)


def fail(_: object) -> object:
    raise Boom


KEEPING: list[BaseException] = []  # a traceback keeps its frames alive, and with them the iterators


@pytest.mark.parametrize(
    "make",
    [
        lambda opened: tf.from_iterable([1]).pipe(tf.flat_map(opened)),
        lambda opened: tf.from_iterable([1]).pipe(tf.flat_map(opened.later)),
        lambda opened: tf.from_iterable([opened(1)]).pipe(tf.flatten()),
        lambda opened: tf.from_iterable(opened(1)),
        lambda opened: tf.from_iterable(opened(1)).pipe(tf.flat_map(opened)).pipe(tf.flat_map(opened)),
    ],
    ids=["flat_map", "flat_map that awaits", "flatten", "source", "nested"],
)
@pytest.mark.parametrize("how", ["fails", "has enough", "ends in the middle", "is cancelled", "is left"])
async def test_R2_what_a_users_function_opened_is_closed_however_the_run_ends(
    make: Callable[[Opened], tf.Readable[Any]], how: str
) -> None:
    opened = Opened()
    readable = make(opened)

    if how == "fails":
        with pytest.raises(Boom) as caught:
            await readable.pipe(tf.map(fail)).pipe(tf.drain())
        KEEPING.append(caught.value)
    elif how == "has enough":
        assert await readable.pipe(tf.first()) == 1
    elif how == "ends in the middle":
        assert await readable.pipe(tf.take(2)).pipe(tf.map(str)).pipe(tf.collect()) == ["1", "1"]
    elif how == "is cancelled":
        with trio.CancelScope() as scope:
            await readable.pipe(tf.take(500)).pipe(tf.for_each(lambda _: scope.cancel()))
    else:
        async with readable.open() as receive:
            await receive.receive()

    assert opened.now == 0


@pytest.mark.parametrize("how", ["fails", "has enough", "ends in the middle", "is left"])
async def test_R11_a_failure_to_close_is_a_failure_of_the_stage_that_opened_it(how: str) -> None:
    failure = OSError("cannot be closed")
    readable = tf.from_iterable([1]).pipe(tf.map(str)).pipe(tf.flat_map(Opened(failure))).pipe(tf.map(str))

    async def run() -> None:
        if how == "fails":
            await readable.pipe(tf.map(fail)).pipe(tf.drain())
        elif how == "has enough":
            await readable.pipe(tf.first())
        elif how == "ends in the middle":
            await readable.pipe(tf.take(2)).pipe(tf.collect())
        else:
            async with readable.open() as receive:
                await receive.receive()

    with pytest.raises(Boom if how == "fails" else OSError) as caught:
        await run()

    notes = caught.value.__notes__
    if how == "fails":
        assert notes == [f"and then: {failure!r}", "in stage 5 of 6: map(fail)"]
    else:
        assert caught.value is failure
        assert len(notes) == 1
        assert notes[0].startswith("in stage 3 of ")
        assert "flat_map" in notes[0]


async def _pass_on(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
    async for item in source:
        await output.send(item)


@tf.transform
async def _each(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item


async def _wait(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item


STAGES: dict[str, tf.Transform[int, int]] = {
    "plain functions": tf.map(abs),
    "coroutine functions": tf.map(_wait),
    "channels": tf.Transform(_pass_on),
    "generators": _each(),
    "workers": tf.map_async(_wait),
    "merged": tf.flat_map_merge(lambda item: [item]),
}


@pytest.mark.parametrize("how", ["cancelled", "ended early"])
@pytest.mark.parametrize("kind", STAGES)
async def test_R2_a_run_that_is_cancelled_or_ends_early_leaves_nothing_to_the_garbage_collector(
    kind: str, how: str
) -> None:
    async def use() -> None:
        with trio.CancelScope() as scope:

            def look(item: int) -> None:
                if item == 400 and how == "cancelled":
                    scope.cancel()

            source = tf.from_iterable(itertools.count()).pipe(STAGES[kind]).pipe(tf.tap(look))
            await source.pipe(STAGES[kind]).pipe(tf.take(800)).pipe(tf.drain())

    await use()  # makes what is made once
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await use()

        assert gc.collect() < 10
    finally:
        gc.enable()
