"""Known traps of Node's streams and of Trio: each test shows that trioflow does not have one of them."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Boom, Sink, Source, Turns, passing, tasks
from tests.http.client import Client, connected, serving
from trioflow import http


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_F1_a_source_that_raises_ends_the_sink_before_the_run_raises() -> None:
    sink, failure = Sink(), Boom()

    with pytest.raises(Boom) as caught:
        await tf.pipeline(Source([1], then=failure).readable, passing(), sink.writable)

    assert caught.value is failure
    assert sink.how == "Cancelled"


async def test_F2_a_sink_that_raises_ends_the_source_before_the_run_raises() -> None:
    source, before = Source(itertools.count()), tasks()

    async def raising(items: tf.ReceiveChannel[int]) -> None:
        await items.receive()
        raise Boom

    with pytest.raises(Boom):
        await tf.pipeline(source.readable, passing(), tf.Writable(raising))

    assert source.ended == 1
    assert tasks() == before


async def test_F3_a_sink_that_never_reads_stops_its_producer(autojump_clock: MockClock) -> None:
    made = 0

    async def asleep(items: tf.ReceiveChannel[bytes]) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1):
        async with tf.Writable(asleep).open(capacity=16) as send:
            while True:
                await send.send(bytes(4096))
                made += 1

    assert made == 16
    assert send.statistics().peak == 16


async def test_F4_the_exception_of_an_async_transform_is_raised_once_and_names_its_stage() -> None:
    async def upload(item: int) -> int:
        await trio.lowlevel.checkpoint()
        raise Boom

    with pytest.raises(Boom) as caught:
        await tf.pipeline([1, 2], tf.map(upload), tf.collect())

    assert caught.value.__notes__ == ["in stage 2 of 3: map(upload)"]


async def test_F5_a_pipeline_without_a_sink_is_refused_when_it_is_built() -> None:
    with pytest.raises(TypeError, match=r"a pipeline must end in a Writable, .* nothing would read what it sends"):
        tf.pipeline([1], passing())  # type: ignore[call-overload]

    source = Source(itertools.count())
    async with source.readable.pipe(passing()).open(capacity=1) as receive:
        await wait_all_tasks_blocked()
        assert receive.statistics().tasks_waiting_send == 1  # it waits, as its statistics show


async def test_F6_a_failure_before_the_first_receive_is_kept_for_it() -> None:
    failure = Boom()

    async with Source([], then=failure).readable.open() as receive:
        await wait_all_tasks_blocked()
        with pytest.raises(Boom) as caught:
            await receive.receive()

    assert caught.value is failure


async def test_F6_a_failure_that_nobody_received_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(Boom) as caught:
        async with Source([], then=Boom()).readable.open():
            await wait_all_tasks_blocked()

    assert caught.value.__notes__ == ["in stage 1 of 1: run()"]


async def test_F7_two_readers_of_one_source_run_at_the_pace_of_the_slower_one() -> None:
    got: list[int] = []

    source = Source(itertools.count()).readable
    async with tf.broadcast(source, 2, capacity=4) as (fast, slow), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: fast.pipe(tf.for_each(got.append)))
        await wait_all_tasks_blocked()

        assert got == [0, 1, 2, 3, 4]  # four wait for the slow reader, and a fifth is in the source's hand
        assert slow.statistics().used == 4
        nursery.cancel_scope.cancel()


async def test_F8_after_a_source_fails_before_the_first_byte_the_handler_can_still_respond() -> None:
    async def handler(request: http.Request, response: http.Response) -> None:
        try:
            await Source([], then=Boom()).readable.pipe(response)
        except Boom:
            response.status = 404
            await response.send(b"not here")

    async with serving(handler) as port, connected(port) as stream:
        client = Client(stream)
        for _ in range(2):  # on one connection
            status, _, body = await client.ask("GET", "/")
            assert (status, body) == (404, b"not here")


@pytest.mark.parametrize("is_raised", [True, False])
async def test_F9_if_one_of_two_destinations_fails_the_other_gets_everything_or_is_cancelled(is_raised: bool) -> None:
    sink, failure = Sink(), Boom()

    def fail(item: int) -> None:
        if item == 1000:
            raise failure

    async def fail_alone(branch: tf.Readable[int]) -> None:
        try:
            await branch.pipe(tf.for_each(fail))
        except Boom:
            if is_raised:
                raise

    async def run() -> None:
        async with tf.broadcast(tf.from_iterable(range(5000)), 2) as (kept, gone), trio.open_nursery() as nursery:
            nursery.start_soon(lambda: kept.pipe(sink.writable))
            nursery.start_soon(fail_alone, gone)

    if is_raised:
        with pytest.RaisesGroup(Boom):
            await run()
        assert sink.how == "Cancelled"
    else:
        await run()
        assert (sink.how, len(sink.got)) == ("the end", 5000)


@pytest.mark.slow
async def test_F10_ten_thousand_runs_over_one_channel_leave_nothing_attached_to_it() -> None:
    send, receive = tf.open_channel[int](20_000)
    chain = tf.map(abs).pipe(tf.filter(str))

    async def run(times: int) -> int:
        for n in range(times):
            await tf.from_iterable([n]).pipe(chain).pipe(tf.to_channel(send.clone()))
        await receive.receive_many()
        gc.collect()
        return len(gc.get_objects())

    few = await run(100)
    many = await run(10_000)

    assert many - few < 100
    assert send.statistics().open_send_channels == 1


async def test_F11_lines_opened_long_before_they_are_read_all_arrive_and_a_failed_open_raises(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"line\n" * 10)

    async with tf.read_file(path).pipe(tf.lines()).open() as lines:
        await trio.sleep(10)
        assert [line async for line in lines] == ["line"] * 10
    with pytest.raises(FileNotFoundError) as caught:
        async with tf.read_file(tmp_path / "none").open() as chunks:
            await chunks.receive()
    assert caught.value.__notes__[0].startswith("in stage 1 of 1: read_file(")


async def test_F12_cancelling_a_reader_ends_a_source_that_would_sleep_forever(autojump_clock: MockClock) -> None:
    closed = []

    @tf.readable
    async def quiet() -> AsyncIterator[int]:
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            closed.append(trio.current_time())

    with trio.move_on_after(3):
        async with quiet().open() as receive:
            async for _ in receive:
                pass

    assert closed == [pytest.approx(3)]
    assert trio.current_time() == pytest.approx(3)


async def test_F13_leaving_the_loop_keeps_the_stream_open_until_its_block_ends() -> None:
    source = Source(itertools.count())

    async with source.readable.pipe(passing()).open() as receive:
        async for item in receive:
            if item == 2:
                break
        assert await receive.receive() == 3
        async for item in receive:
            assert item == 4
            break
        assert source.ended == 0

    assert source.ended == 1


@pytest.mark.parametrize("cause", [ValueError("cause"), None])
async def test_F14_a_failure_is_not_masked_by_a_premature_end(cause: Exception | None) -> None:
    failure = Boom()
    failure.__cause__ = cause

    with pytest.raises(Boom) as caught:
        await tf.pipeline(Source([1, 2], then=failure).readable, passing(), passing(), tf.collect())

    assert caught.value is failure
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("fails_after", range(4))
async def test_F15_after_a_failure_nothing_more_is_called(fails_after: int) -> None:
    """test_rules_failure and test_faults test this for any chain and any fault."""
    calls: list[str] = []
    failed_at = []

    @tf.transform
    async def calling(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            calls.append("item")
            yield item
        calls.append("flush")

    def fail_late(item: int) -> int:
        if item == fails_after:
            failed_at.append(len(calls))
            raise Boom
        return item

    with pytest.raises(Boom):
        await tf.pipeline(range(9), tf.map(fail_late), calling(), calling(), tf.collect(), capacity=1)

    assert len(calls) == failed_at[0]
    assert "flush" not in calls


@pytest.mark.parametrize("fails", [False, True])
async def test_F16_files_are_closed_when_a_run_has_returned_or_raised(tmp_path: Path, fails: bool) -> None:
    (tmp_path / "in").write_bytes(bytes(5000))
    before = open_descriptors()

    open_at_first: list[int] = []

    def look(chunk: bytes) -> bytes:
        if not open_at_first:
            open_at_first.append(len(open_descriptors() - before))
            if fails:
                raise Boom
        return chunk

    run = tf.pipeline(tf.read_file(tmp_path / "in", chunk_size=1), tf.map(look), tf.write_file(tmp_path / "out"))
    if fails:
        with pytest.raises(Boom):
            await run
    else:
        await run

    assert open_at_first[0] > 0
    assert open_descriptors() == before
    assert sorted(os.listdir(tmp_path)) == (["in"] if fails else ["in", "out"])


def test_F17_a_chain_with_an_invalid_stage_opens_nothing(tmp_path: Path) -> None:
    before = open_descriptors()

    with pytest.raises(TypeError, match="the middle of a pipeline expects a Transform or a Duplex, got str 'gzip'"):
        tf.pipeline(tf.read_file(__file__), "gzip", tf.write_file(tmp_path / "out"))

    assert open_descriptors() == before
    assert os.listdir(tmp_path) == []


async def test_F18_a_chunk_larger_than_the_capacity_does_not_hang_and_a_str_weighs_1() -> None:
    chunk = bytes(1 << 20)

    @tf.transform
    async def joined(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        whole = b""
        async for part in chunks:
            whole += part
        yield whole

    got = await tf.pipeline([chunk] * 3, passing(), joined(), tf.collect(), capacity=1)

    assert got == [chunk * 3]
    text = "ä" * 100_000  # a str weighs 1, whatever its length
    assert await tf.pipeline([text, text], passing(), tf.join(), capacity=1) == text * 2


async def test_F19_none_is_an_ordinary_item() -> None:
    items = [None, b"", 0, False, "", None]

    got = await tf.pipeline(items, passing(), tf.map(lambda item: item), tf.collect())

    assert len(got) == len(items)
    assert all(one is other for one, other in zip(got, items, strict=True))


async def test_F20_two_readers_of_a_channel_take_turns_in_the_order_they_arrived() -> None:
    got: list[tuple[str, int]] = []

    async def read(name: str, receive: tf.ReceiveChannel[int]) -> None:
        for _ in range(3):
            got.append((name, await receive.receive()))

    async with Source(range(6)).readable.open(capacity=1) as receive, trio.open_nursery() as nursery:
        nursery.start_soon(read, "a", receive)
        nursery.start_soon(read, "b", receive)

    assert sorted(item for _, item in got) == list(range(6))
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.from_iterable(near).pipe(tf.drain()))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await tf.from_iterable(near).pipe(tf.drain())
        await far.send_eof()


async def test_F21_an_endpoint_that_is_already_closed_raises_at_once(autojump_clock: MockClock) -> None:
    send, receive = tf.open_channel[int]()
    near, _ = memory_stream_pair()
    send.close()
    receive.close()
    await near.aclose()
    runs: list[Callable[[], Any]] = [
        lambda: tf.from_iterable(receive).pipe(tf.collect()),
        lambda: tf.from_iterable([1]).pipe(tf.to_channel(send)),
        lambda: tf.from_iterable(near).pipe(tf.collect()),
        lambda: tf.from_iterable([b"x"]).pipe(tf.to_stream(near)),
    ]

    for run in runs:
        with trio.fail_after(1), pytest.raises(trio.ClosedResourceError):
            await run()
    assert trio.current_time() == 0


async def test_F22_a_function_gives_one_result_for_each_item() -> None:
    assert await tf.from_iterable(range(3)).pipe(tf.map(lambda n: None)).pipe(tf.collect()) == [None] * 3


async def test_F23_a_hop_costs_a_batch_not_an_item() -> None:
    ticks = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticks.take)
        count = await tf.pipeline(range(20_000), passing(), tf.map(abs), passing(), tf.count())
        nursery.cancel_scope.cancel()

    assert count == 20_000
    assert ticks.count < 20_000 / 20


@pytest.mark.parametrize("block", ["readable", "writable", "duplex", "channel"])
async def test_F24_an_exception_raised_in_a_block_is_not_lost_to_a_cancellation(block: str) -> None:
    near, _ = memory_stream_pair()
    blocks: dict[str, Callable[[], Any]] = {
        "readable": Source(itertools.count()).readable.pipe(passing()).open,
        "writable": tf.map(str).pipe(tf.collect()).open,
        "duplex": lambda: tf.Duplex.from_stream(near),
        "channel": lambda: tf.open_channel[int]()[0],
    }

    async def run() -> None:
        if block == "channel":
            with blocks[block]():
                await wait_all_tasks_blocked()
                scope.cancel()
                raise Boom
        async with blocks[block]():
            await wait_all_tasks_blocked()
            scope.cancel()
            raise Boom

    scope = trio.CancelScope()
    with pytest.raises(Boom), scope:
        await run()


async def test_F25_a_cancel_scope_in_a_generator_affects_only_its_stage(autojump_clock: MockClock) -> None:
    ran_in = set()

    @tf.readable
    async def scoped() -> AsyncIterator[int]:
        for n in range(3):
            ran_in.add(trio.lowlevel.current_task())
            with trio.move_on_after(1):
                yield n
                await trio.sleep(5)

    got = []
    async with scoped().pipe(passing()).open(capacity=1) as receive:
        async for item in receive:
            await trio.sleep(3)  # longer than the stage's cancel scope allows
            got.append(item)

    assert got == [0, 1, 2]
    assert len(ran_in) == 1
    assert trio.lowlevel.current_task() not in ran_in


async def test_F26_after_a_cancelled_write_the_stream_is_closed() -> None:
    send, receive = lockstep_stream_one_way_pair()

    with trio.CancelScope() as scope:
        async with tf.to_stream(send).open() as chunks:
            await chunks.send(bytes(1 << 20))
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()

    with pytest.raises(trio.ClosedResourceError):
        await send.send_all(b"more")
    await receive.aclose()


async def test_F27_a_run_closes_the_clone_it_was_given() -> None:
    send, receive = tf.open_channel[int]()

    async def run(n: int, clone: tf.SendChannel[int]) -> None:
        await tf.from_iterable([n]).pipe(tf.to_channel(clone))

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(run, n, send.clone())
        send.close()

        assert sorted([item async for item in receive]) == [0, 1, 2]


def test_F27_a_forgotten_clone_warns_in_development_mode() -> None:
    program = "import trioflow as tf\nsend, receive = tf.open_channel()\nother = send.clone()\nsend.close()\ndel other"

    done = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr.count("was never closed, so its readers never see the end") == 1


async def test_F28_items_that_a_closed_reader_never_took_are_counted_and_its_sender_gets_an_error() -> None:
    send, receive = tf.open_channel[int](8)
    await send.send_many(range(5))
    await receive.receive()

    receive.close()

    assert send.statistics().discarded == 4
    with pytest.raises(trio.BrokenResourceError, match="the last reader of this channel has closed"):
        await send.send(5)
