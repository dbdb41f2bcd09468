"""The requirements for new streams, by their numbers, applied to our own names and in our own words.

The table of all numbers is docs/contributing/conformance.md; most of them are proved by tests elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, passes

# A channel pair: PUSH


async def test_PUSH_001_a_channel_is_a_pair_and_delivers_the_same_objects() -> None:
    send, receive = tf.open_channel[Any](4)

    with send:
        for item in ("text", b"bytes", bytearray(b"a"), memoryview(b"b")):
            await send.send(item)

    assert [item async for item in receive] == ["text", b"bytes", bytearray(b"a"), memoryview(b"b")]


async def test_PUSH_008_statistics_count_the_items_and_bytes_sent() -> None:
    send, receive = tf.open_channel[bytes]()

    with send:
        await send.send_many([b"ab", b"c"])

    assert (send.statistics().items, send.statistics().bytes) == (2, 3)
    assert await tf.from_iterable(receive).pipe(tf.join()) == b"abc"


async def test_PUSH_012_a_reader_takes_all_buffered_items_at_once() -> None:
    send, receive = tf.open_channel[int]()

    with send:
        await send.send(1)
        await send.send_many([2, 3])

    assert await receive.receive_many() == [1, 2, 3]


async def test_PUSH_020_room_is_what_could_be_sent_now_and_never_negative() -> None:
    send, receive = tf.open_channel[Any](2)
    rooms = [send.room()]

    for item in (1, 2):
        send.send_nowait(item)
        rooms.append(send.room())
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(3)
    await receive.receive_many()
    send.send_nowait(bytes(99_999))  # the empty channel admits it, although it is too heavy

    assert rooms == [2, 1, 0]
    assert send.room() == 0


async def test_PUSH_022_a_closed_end_raises_even_if_there_is_room() -> None:
    send, receive = tf.open_channel[int](2)
    send.close()

    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(1)
    with pytest.raises(trio.ClosedResourceError):
        await send.wait_for_room()
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()


async def test_PUSH_023_an_aborted_channel_raises_at_both_ends_with_the_cause() -> None:
    send, receive = tf.open_channel[int](2)
    failure = Boom()
    send.send_nowait(1)
    send.abort(failure)

    with pytest.raises(trio.BrokenResourceError) as caught:
        await receive.receive()
    assert caught.value.__cause__ is failure
    with pytest.raises(trio.BrokenResourceError):
        await send.wait_for_room()


def test_PUSH_032_a_capacity_below_one_is_refused_and_not_corrected() -> None:
    for capacity in (0, -1):
        with pytest.raises(ValueError, match="capacity must be at least 1"):
            tf.open_channel(capacity)
    with pytest.raises(TypeError):
        tf.open_channel(1.5)


async def test_PUSH_033_each_item_of_a_batch_is_weighed() -> None:
    send, _ = tf.open_channel[int](4)

    send.send_many_nowait([1, 2, 3])

    assert send.room() == 1


async def test_PUSH_050_the_writer_gets_an_error_when_the_reader_leaves() -> None:
    send, receive = tf.open_channel[int](2)
    await send.send(0)
    with receive:
        async for _ in receive:
            break

    with pytest.raises(trio.BrokenResourceError):
        await send.send(1)
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(1)


async def test_PUSH_061_in_a_cancelled_scope_nothing_is_received() -> None:
    source = Source(range(9))
    with trio.CancelScope() as scope:
        scope.cancel()
        await source.readable.pipe(tf.collect())

    assert scope.cancelled_caught
    assert source.sent == 0
    assert source.started == source.ended


async def test_PUSH_071_transforms_are_applied_in_the_order_they_are_given() -> None:
    got = await tf.pipeline([1, 2], tf.map(lambda n: n + 1), tf.map(lambda n: n * 10), tf.collect())

    assert got == [20, 30]


async def test_PUSH_084_several_writers_and_readers_can_work_at_once() -> None:
    send, receive = tf.open_channel[int](2)
    got: list[int] = []

    async def write(send: tf.SendChannel[int], start: int) -> None:
        with send:
            for n in range(start, start + 50):
                await send.send(n)

    async def read(receive: tf.ReceiveChannel[int]) -> None:
        with receive:
            async for n in receive:
                got.append(n)

    async with trio.open_nursery() as nursery:
        with send, receive:
            for i in range(2):
                nursery.start_soon(write, send.clone(), 50 * i)
                nursery.start_soon(read, receive.clone())

    assert sorted(got) == [*range(100)]


async def test_PUSH_094_a_sender_can_wait_until_a_full_channel_has_room() -> None:
    send, receive = tf.open_channel[int](1)
    send.send_nowait(1)
    woken: list[str] = []

    async def wait() -> None:
        await send.wait_for_room()
        woken.append("room")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert woken == []
        await receive.receive()
        await wait_all_tasks_blocked()
        assert woken == ["room"]


async def test_PUSH_096_a_task_that_waits_for_room_gets_an_error_when_the_channel_is_aborted() -> None:
    send, _ = tf.open_channel[int](1)
    send.send_nowait(1)

    async def wait() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await send.wait_for_room()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        send.abort(Boom())


# From iterables: FROM


async def later() -> AsyncIterator[int]:
    for n in range(3):
        await trio.lowlevel.checkpoint()
        yield n


def now() -> Iterator[int]:
    yield from range(3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("añb", ["añb"]),
        ("", [""]),
        (b"ab", [b"ab"]),
        (bytearray(b"ab"), [b"ab"]),
        (memoryview(b"ab"), [b"ab"]),
        (later(), [0, 1, 2]),
        (now(), [0, 1, 2]),
        ([0, 1], [0, 1]),
        ((), []),
        (iter(()), []),
        ([[1, [2]], None], [[1, [2]], None]),
    ],
    ids=repr,
)
async def test_FROM_010_an_iterable_yields_its_items_and_a_str_or_bytes_object_is_one_item(
    given: Any, expected: Any
) -> None:
    assert await tf.from_iterable(given).pipe(tf.collect()) == expected


@pytest.mark.parametrize("given", [None, 3, object(), 2.5])
def test_FROM_040_what_cannot_be_iterated_is_refused_when_the_value_is_built(given: Any) -> None:
    with pytest.raises(TypeError, match="a stream must begin with a Readable, an iterable"):
        tf.from_iterable(given)


async def test_FROM_015_nested_items_are_flattened_on_request() -> None:
    nested = tf.from_iterable([[1, 2], [], [3]])

    assert await nested.pipe(tf.flatten()).pipe(tf.collect()) == [1, 2, 3]


# Transforms: PULL


async def test_PULL_013_none_is_an_item_and_filter_leaves_items_out() -> None:
    assert await tf.pipeline([1, None], tf.map(lambda item: item), tf.collect()) == [1, None]
    assert await tf.pipeline([1, None], tf.filter(lambda item: item is not None), tf.collect()) == [1]


async def test_PULL_020_the_function_of_a_transform_may_be_async_or_return_an_awaitable_or_an_iterable() -> None:
    async def double(n: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * n

    async def twice(n: int) -> AsyncIterator[int]:
        yield n
        yield n

    assert await tf.pipeline([1, 2], tf.map(double), tf.collect()) == [2, 4]
    assert await tf.pipeline([1, 2], tf.map_async(lambda n: double(n)), tf.collect()) == [2, 4]
    assert await tf.pipeline([1, 2], tf.flat_map(twice), tf.collect()) == [1, 1, 2, 2]


async def test_PULL_030_a_transform_can_keep_state_for_each_run() -> None:
    total = tf.from_iterable([1, 2, 3]).pipe(tf.scan(lambda total, n: total + n, 0))

    assert await total.pipe(tf.collect()) == await total.pipe(tf.collect()) == [1, 3, 6]


# Sinks: PIPE, WRITE, BYTES, TEXT, ARRAY


async def test_PIPE_003_a_run_writes_its_items_through_transforms_to_a_sink() -> None:
    sink = Sink()

    result = await tf.pipeline(later(), tf.map(str), sink.writable)

    assert (sink.got, sink.how, result) == (["0", "1", "2"], "the end", "result")


@pytest.mark.parametrize("then", ["end", Boom()])
async def test_WRITE_010_a_run_closes_or_breaks_the_channel_it_was_given(then: Any) -> None:
    send, receive = tf.open_channel[int]()

    if then == "end":
        await tf.pipeline(Source([1], then).readable, send.clone())
        await send.send(2)  # the run closed only its clone
        assert await receive.receive_many() == [1, 2]
    else:
        with pytest.raises(Boom):
            await tf.pipeline(Source([1], then).readable, send.clone())
        with pytest.raises(trio.BrokenResourceError):
            await receive.receive()  # a failure does not pass for an end, even though other clones are open
    send.close()


def test_WRITE_021_a_run_without_a_sink_is_refused() -> None:
    with pytest.raises(TypeError):
        tf.from_iterable([1]).pipe(None)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        tf.pipeline([1])


async def test_WRITE_030_a_sink_can_be_read_too() -> None:
    near, far = memory_stream_pair()

    async def answer() -> None:
        async with tf.Duplex.from_stream(far) as duplex:
            await duplex.pipe(tf.map(bytes.upper)).pipe(duplex.writable)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        got = await tf.pipeline([b"a", b"b"], tf.Duplex.from_stream(near), tf.join())

    assert got == b"AB"


async def test_BYTES_007_a_limit_is_exact_to_the_byte() -> None:
    chunks = tf.from_iterable([b"ab", b"c"])

    assert await chunks.pipe(tf.limit_bytes(3)).pipe(tf.join()) == b"abc"
    with pytest.raises(ValueError, match="2"):
        await chunks.pipe(tf.limit_bytes(2)).pipe(tf.join())


async def test_BYTES_005_an_empty_source_gives_an_empty_result() -> None:
    assert await tf.from_iterable([b""]).pipe(tf.join()) == b""
    assert await tf.empty().pipe(tf.collect()) == []
    assert await tf.empty().pipe(tf.join(b"")) == b""


async def test_TEXT_002_characters_split_across_chunks_are_decoded_whole() -> None:
    chunks = ["añ€".encode()[at : at + 1] for at in range(len("añ€".encode()))]

    assert await tf.pipeline(chunks, tf.decode(), tf.join()) == "añ€"
    assert await tf.pipeline(["añ".encode("latin-1")], tf.decode("latin-1"), tf.join()) == "añ"
    with pytest.raises(UnicodeDecodeError):
        await tf.pipeline([b"\xff"], tf.decode(), tf.join())


async def test_ARRAY_010_chunks_keep_their_boundaries() -> None:
    assert await tf.pipeline([b"ab", b"", b"c"], tf.passthrough(), tf.collect()) == [b"ab", b"", b"c"]


# Several readers: BCAST, SHARE


async def test_BCAST_001_every_branch_gets_what_is_pushed() -> None:
    source = tf.queue[int](9)
    got: dict[str, list[Any]] = {}

    async def read(name: str, branch: tf.Readable[Any]) -> None:
        got[name] = await branch.pipe(tf.collect())

    async with tf.broadcast(source, 2) as (a, b), trio.open_nursery() as nursery:
        nursery.start_soon(read, "plain", a)
        nursery.start_soon(read, "changed", b.pipe(tf.map(lambda n: n + 1)).pipe(tf.map(str)))
        for n in (1, 2):
            source.offer(n)
        source.close()

    assert got == {"plain": [1, 2], "changed": ["2", "3"]}


async def test_BCAST_004_a_branch_shows_whether_its_reader_has_left() -> None:
    async with tf.broadcast(tf.from_iterable([1, 2]), 2) as (a, b):
        assert await a.pipe(tf.first()) == 1
        assert [branch.statistics().open_receive_channels for branch in (a, b)] == [0, 1]


async def test_BCAST_010_items_that_all_branches_have_received_are_freed() -> None:
    peaks = set()
    async with (
        tf.broadcast(tf.from_iterable(range(100)), 2, capacity=4) as (a, b),
        a.open(capacity=1) as left,
        b.open(capacity=1) as right,
    ):
        async for n in left:
            assert await right.receive() == n
            peaks |= {a.statistics().used, b.statistics().used}

    assert max(peaks) <= 4
    assert a.statistics().used == b.statistics().used == 0


async def test_BCAST_012_a_branch_drops_by_its_own_policy_and_counts_what_it_drops() -> None:
    async with tf.broadcast(
        Source(range(9), then=None).readable, 2, capacity=2, overflow=["drop_oldest", "drop_newest"]
    ) as (a, b):
        await wait_all_tasks_blocked()
        async with a.open() as oldest, b.open() as newest:
            assert [await oldest.receive() for _ in range(2)] == [7, 8]
            assert [await newest.receive() for _ in range(2)] == [0, 1]
        assert (a.statistics().dropped, b.statistics().dropped) == (7, 7)


async def test_BCAST_020_a_branch_counts_the_bytes_it_was_given() -> None:
    async with tf.broadcast(tf.from_iterable([b"ab", b"c"]), 1) as (branch,):
        assert await branch.pipe(tf.join()) == b"abc"

    assert branch.statistics().bytes == 3


async def test_BCAST_051_cancelling_ends_all_readers_and_the_source() -> None:
    source = Source([1], then=None)
    with trio.CancelScope() as scope:
        async with tf.broadcast(source.readable, 2) as branches, trio.open_nursery() as nursery:
            for branch in branches:
                nursery.start_soon(branch.pipe, tf.drain())
            await wait_all_tasks_blocked()
            scope.cancel()

    assert scope.cancelled_caught
    assert source.started == source.ended == 1


# Two directions: DUPLEX


def pair(capacity: int) -> tuple[tf.Duplex[Any, Any], tf.Duplex[Any, Any]]:
    """Make two duplexes, each of which reads what the other writes."""
    (to_b, at_b), (to_a, at_a) = tf.open_channel[Any](capacity), tf.open_channel[Any](capacity)
    return (
        tf.Duplex(tf.from_iterable(at_a), tf.to_channel(to_b)),
        tf.Duplex(tf.from_iterable(at_b), tf.to_channel(to_a)),
    )


async def test_DUPLEX_002_bytes_written_at_one_end_are_read_at_the_other_in_both_directions() -> None:
    a, b = pair(2)
    got: dict[str, Any] = {}

    async def ask() -> None:
        got["a"] = await tf.pipeline(range(9), a, tf.collect())

    async def answer() -> None:
        await b.pipe(tf.map(lambda n: 2 * n)).pipe(b.writable)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(answer)

    assert got == {"a": [*range(0, 18, 2)]}


async def test_DUPLEX_005_closing_twice_is_harmless_and_leaving_a_block_closes() -> None:
    near, far = memory_stream_pair()

    async with tf.Duplex.from_stream(near) as duplex:
        await duplex.aclose()
        await duplex.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"a")
    assert await far.receive_some() == b""


async def test_DUPLEX_007_the_end_of_one_direction_leaves_the_other_open() -> None:
    a, b = pair(2)

    assert await tf.pipeline([1], a.writable) == 1
    assert await b.pipe(tf.collect()) == [1]
    async with b.writable.open() as send:
        await send.send(2)
    assert await a.pipe(tf.collect()) == [2]


async def test_DUPLEX_008_each_direction_has_its_own_bound() -> None:
    (send, _), (other, _) = tf.open_channel[int](1), tf.open_channel[int](3)

    send.send_nowait(1)
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(2)
    other.send_many_nowait([1, 2, 3])

    assert (send.room(), other.room()) == (0, 0)


async def test_DUPLEX_012_messages_can_be_exchanged_in_turn() -> None:
    near, far = memory_stream_pair()
    told: list[str] = []

    async def answer() -> None:
        async with tf.Duplex.from_stream(far) as duplex:
            shouted = duplex.pipe(tf.lines()).pipe(tf.map(str.upper)).pipe(tf.encode(end="\n"))
            await shouted.pipe(duplex.writable)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        duplex = tf.Duplex.from_stream(near)
        asked = tf.encode(end="\n").pipe(duplex.writable)
        async with asked.open() as send, duplex.pipe(tf.lines()).open() as receive:
            for word in ("one", "two", "three"):
                await send.send(word)
                told.append(await receive.receive())

    assert told == ["ONE", "TWO", "THREE"]


# Several sources: MERGE


async def test_MERGE_001_merging_empty_sources_gives_nothing() -> None:
    assert await tf.merge().pipe(tf.collect()) == []
    assert await tf.merge(tf.empty(), tf.from_iterable([1]), tf.empty()).pipe(tf.collect()) == [1]


async def test_MERGE_003_items_arrive_in_the_order_in_which_they_were_sent(autojump_clock: MockClock) -> None:
    def at(*times: int) -> tf.Readable[int]:
        async def run(output: tf.SendChannel[int]) -> None:
            for time in times:
                await trio.sleep_until(start + time)
                await output.send(time)

        return tf.Readable(run)

    start = trio.current_time()

    assert await tf.merge(at(1, 4, 5), at(2, 6), at(3)).pipe(tf.collect()) == [1, 2, 3, 4, 5, 6]


# Looking: TAP


async def test_TAP_001_a_tap_sees_each_item_and_changes_none() -> None:
    seen: list[int] = []

    async def see(n: int) -> None:
        await passes(1)
        seen.append(-n)

    got = await tf.pipeline([1, 2], tf.tap(seen.append), tf.tap(see), tf.collect())

    assert got == [1, 2]
    assert sorted(seen) == [-2, -1, 1, 2]
