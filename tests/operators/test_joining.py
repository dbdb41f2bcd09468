"""Several readables as one: what comes out, which one waits for which, and how they end together."""

from __future__ import annotations

import builtins
import heapq
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import CONSUMERS, Boom, Consumer, Source, passes

Join = Callable[..., tf.Readable[Any]]

JOINS: list[Join] = [tf.merge, tf.merge_sorted, tf.concat, tf.interleave, tf.zip, tf.zip_latest]
AT_ONCE: list[Join] = [tf.merge, tf.merge_sorted, tf.interleave, tf.zip, tf.zip_latest]


def slow(items: Any, every: float = 1, first: float = 0) -> tf.Readable[Any]:
    """Make a source of one item every few seconds."""

    async def run(output: tf.SendChannel[Any]) -> None:
        await trio.sleep(first)
        for item in items:
            await output.send(item)
            await trio.sleep(every)

    return tf.Readable(run)


def strict_zip(*readables: tf.Readable[Any]) -> tf.Readable[Any]:
    return tf.zip(*readables, strict=True)


@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize("join", JOINS)
async def test_R9_with_every_consumer_both_sources_have_ended(join: Join, consume: Consumer) -> None:
    sources = [Source(range(9)), Source(range(9))]

    await consume(join(sources[0].readable, sources[1].readable))

    assert [source.ended for source in sources] == [source.started for source in sources]


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("failing", [0, 1])
async def test_R11_a_source_that_fails_ends_all_others_and_its_own_exception_is_raised(
    join: Join, failing: int
) -> None:
    failure = Boom()
    sources = [Source([1], then=None), Source([1], then=None)]
    sources[failing].then = failure
    if join is tf.concat:
        sources[0].then = failure

    with pytest.raises(Boom) as caught:
        await join(sources[0].readable, sources[1].readable).pipe(tf.collect())

    assert caught.value is failure
    first, second = failure.__notes__
    assert first == "in stage 1 of 1: run()"
    assert second.startswith(f"in stage 1 of 2: {join.__name__}(<Readable run()>, <Readable run()>")
    assert [source.ended for source in sources] == [source.started for source in sources]


@pytest.mark.parametrize("join", AT_ONCE)
async def test_R11_a_failure_is_raised_at_once_even_if_other_sources_are_quiet_and_the_reader_is_slow(
    join: Join, autojump_clock: MockClock
) -> None:
    failure = Boom()

    async def failing_later(output: tf.SendChannel[int]) -> None:
        await output.send(1)
        await trio.sleep(3)
        raise failure

    others = [Source([1, 2], then=None), Source(itertools.count()), Source([3], then=None)]
    joined = join(others[0].readable, tf.Readable(failing_later), *(other.readable for other in others[1:]))

    async def be_slow(item: Any) -> None:
        await trio.sleep(100)

    with pytest.raises(Boom) as caught:
        await joined.pipe(tf.for_each(be_slow))

    assert caught.value is failure
    assert trio.current_time() == 3
    assert [other.ended for other in others] == [1, 1, 1]


@pytest.mark.parametrize("join", AT_ONCE)
async def test_R11_two_sources_that_fail_raise_a_group(join: Join) -> None:
    async def fail(output: tf.SendChannel[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("second")

    with pytest.raises(ExceptionGroup) as caught:
        await join(tf.Readable(fail), Source(then=Boom("first")).readable).pipe(tf.collect())

    assert sorted(exc.args[0] for exc in caught.value.exceptions) == ["first", "second"]


@pytest.mark.parametrize("join", JOINS)
async def test_R9_a_reader_that_stops_early_ends_all_sources_without_an_error(join: Join) -> None:
    sources = [Source([1, 2], then=None), Source([3, 4], then=None)]

    got = await join(sources[0].readable, sources[1].readable).pipe(tf.take(1)).pipe(tf.collect())

    assert len(got) == 1
    assert [source.ended for source in sources] == [source.started for source in sources]


@pytest.mark.parametrize("join", JOINS)
async def test_R16_a_cancelled_join_ends_all_sources(join: Join, autojump_clock: MockClock) -> None:
    sources = [Source([1], then=None), Source([2], then=None)]

    with trio.move_on_after(1) as scope:
        await join(sources[0].readable, sources[1].readable).pipe(tf.collect())

    assert scope.cancelled_caught
    assert [source.ended for source in sources] == [source.started for source in sources]


@pytest.mark.parametrize("join", JOINS)
async def test_R5_a_slow_reader_stops_all_sources(join: Join) -> None:
    sources = [Source(itertools.count()), Source(itertools.count())]

    async with join(sources[0].readable, sources[1].readable).open(capacity=2):
        await wait_all_tasks_blocked()

    # Two in its own channel, two in the joined one, and a batch in between; one of the two may hold all of the latter.
    assert all(source.sent <= 9 for source in sources)
    assert sources[0].sent >= 2


@pytest.mark.parametrize("join", JOINS)
async def test_R4_a_join_can_run_again_and_twice_at_the_same_time(join: Join) -> None:
    joined = join(tf.from_iterable(range(100)), tf.from_iterable(range(100)))
    results: list[list[Any]] = []

    async def run() -> None:
        results.append(await joined.pipe(tf.collect()))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)

    assert len(results) == 3
    if join in (tf.concat, tf.interleave, tf.zip):
        assert results[0] == results[1] == results[2]
    if join in (tf.merge, tf.concat, tf.interleave):
        assert all(sorted(result) == sorted([*range(100)] * 2) for result in results)


@pytest.mark.parametrize("join", JOINS)
async def test_R1_what_is_not_a_readable_is_refused_when_the_value_is_built(join: Join) -> None:
    with pytest.raises(TypeError, match=rf"{join.__name__} expects Readables, got list \[1\]"):
        join(tf.from_iterable([1]), [1])
    with pytest.raises(TypeError, match="expects Readables, got the function empty; call it first"):
        join(tf.empty)
    for several in ([tf.empty()], (each for each in [tf.empty()])):
        with pytest.raises(TypeError, match=rf"; write {join.__name__}\(\*readables\)$"):
            join(several)
    with pytest.raises(TypeError, match=r"got list \[1\]; write tf.from_iterable\(...\) around it"):
        join(tf.empty(), [1])


@pytest.mark.parametrize("join", JOINS)
async def test_R11_the_note_on_a_failure_says_from_which_source_it_came(join: Join, tmp_path: Path) -> None:
    def read(name: str, data: bytes) -> tf.Readable[str]:
        (tmp_path / name).write_bytes(data)
        return tf.read_file(tmp_path / name).pipe(tf.lines())

    with pytest.raises(UnicodeDecodeError) as caught:
        await join(read("good", b""), read("bad", b"\xff")).pipe(tf.drain())

    [_, inner, outer] = caught.value.__notes__
    assert re.fullmatch(r"in stage 2 of 2: lines\(\), from read_file\(.*bad'\)\)", inner)
    assert outer.startswith(f"in stage 1 of 2: {join.__name__}(")


async def test_R18_no_item_is_mistaken_for_the_end() -> None:
    items = [None, b"", "", 0, False]
    readable = tf.from_iterable(items)

    assert await tf.merge(readable).pipe(tf.collect()) == items
    assert await tf.concat(readable, readable).pipe(tf.collect()) == items * 2
    assert await tf.interleave(readable, readable).pipe(tf.collect()) == [x for item in items for x in (item, item)]
    assert await tf.zip(readable, readable).pipe(tf.collect()) == [(item, item) for item in items]
    latest = await tf.zip_latest(readable, tf.from_iterable([None])).pipe(tf.last())
    assert latest == (False, None)


async def test_merge_emits_each_item_when_it_arrives(autojump_clock: MockClock) -> None:
    merged = tf.merge(slow("ace", every=2), slow("bdf", every=2, first=1), Source(then=None).readable)
    got: list[tuple[str, float]] = []

    with trio.move_on_after(60):
        async with merged.open() as receive:
            async for item in receive:
                got.append((item, trio.current_time()))

    assert got == [(item, pytest.approx(time)) for time, item in enumerate("abcdef")]


async def test_merge_starves_none_of_its_sources() -> None:
    merged = tf.merge(*(tf.repeat(name) for name in "abc"))

    got = await merged.pipe(tf.take(5000)).pipe(tf.collect())

    assert all(got.count(name) > 500 for name in "abc")


async def test_concat_starts_a_source_only_after_the_previous_one_has_ended() -> None:
    first, second = Source([1], then=None), Source([2])

    async with tf.concat(first.readable, second.readable).open() as receive:
        assert await receive.receive() == 1
        await wait_all_tasks_blocked()
        assert second.started == 0


async def test_interleave_waits_for_the_source_whose_turn_it_is_while_the_others_are_read_ahead(
    autojump_clock: MockClock,
) -> None:
    times: list[tuple[str, float]] = []

    async with tf.interleave(tf.from_iterable([*"ace"]), slow([*"bd"], first=1)).open() as receive:
        async for item in receive:
            times.append((item, trio.current_time()))

    assert times == [("a", 0), ("b", 1), ("c", 1), ("d", 2), ("e", 2)]


async def test_zip_ends_with_the_shortest_source_even_if_others_are_quiet(autojump_clock: MockClock) -> None:
    for order in itertools.permutations([0, 1, 2]):
        readables = [Source([1], then=None).readable, slow([1]), Source(then=None).readable]

        with trio.fail_after(50):
            got = await tf.zip(*(readables[i] for i in order), tf.empty()).pipe(tf.collect())
            assert got == []
    with trio.fail_after(50):
        assert await tf.zip(slow([1, 2]), Source([3], then=None).readable).pipe(tf.take(1)).pipe(tf.collect()) == [
            (1, 3)
        ]
        assert await tf.zip(slow([1]), Source([3], then=None).readable).pipe(tf.collect()) == [(1, 3)]


@pytest.mark.parametrize("lengths", [(2, 3), (3, 2), (0, 1), (1, 0), (1, 1, 2)])
async def test_strict_zip_fails_if_its_sources_differ_in_length(lengths: tuple[int, ...]) -> None:
    got: list[Any] = []
    readables = [tf.from_iterable(range(length)) for length in lengths]

    with pytest.raises(ValueError, match=r"zip: readables must be equally long, but number \d has ended") as caught:
        await tf.zip(*readables, strict=True).pipe(tf.for_each(got.append))

    assert str(caught.value).endswith(f"number {lengths.index(max(lengths)) + 1} has more")
    assert f"number {lengths.index(min(lengths)) + 1} has ended" in str(caught.value)
    assert caught.value.__notes__[0].startswith("in stage 1 of 2: zip(")


async def test_strict_zip_waits_for_the_end_of_all_sources(autojump_clock: MockClock) -> None:
    got = await strict_zip(slow([1, 2]), tf.from_iterable([3, 4])).pipe(tf.collect())

    assert got == [(1, 3), (2, 4)]


async def test_zip_latest_emits_a_tuple_for_each_item_once_every_source_has_sent_one(autojump_clock: MockClock) -> None:
    joined = tf.zip_latest(slow([*"abc"], every=2), slow([1, 2], every=2, first=1))

    assert await joined.pipe(tf.collect()) == [("a", 1), ("b", 1), ("b", 2), ("c", 2)]


async def test_zip_latest_ends_at_once_if_one_source_is_empty(autojump_clock: MockClock) -> None:
    source = Source([1], then=None)

    assert await tf.zip_latest(source.readable, tf.empty()).pipe(tf.collect()) == []
    assert source.ended == 1
    assert trio.current_time() == 0


async def test_zip_latest_skips_no_item_and_never_goes_back(autojump_clock: MockClock) -> None:
    joined = tf.zip_latest(tf.from_iterable(range(300)), tf.from_iterable(range(300)))

    async with joined.open(capacity=3) as receive:
        got = []
        async for pair in receive:
            got.append(pair)
            await passes(len(got) % 3)

    for before, after in itertools.pairwise(got):
        assert before[0] <= after[0]
        assert before[1] <= after[1]
        assert sum(after) == sum(before) + 1
    assert got[-1] == (299, 299)


ITEMS = st.lists(st.integers(), max_size=20)


@settings(max_examples=40)
@given(
    lists=st.lists(ITEMS, max_size=4),
    capacity=st.sampled_from([1, 2, 256]),
    delays=st.lists(st.integers(0, 2), min_size=1, max_size=7),
)
def test_capacity_and_pace_do_not_change_the_result(lists: list[list[int]], capacity: int, delays: list[int]) -> None:
    def paced(items: list[int]) -> tf.Readable[int]:
        async def run(output: tf.SendChannel[int]) -> None:
            for item, delay in builtins.zip(items, itertools.cycle(delays)):
                await trio.sleep(delay)
                await output.send(item)

        return tf.Readable(run)

    async def main() -> None:
        async def got(join: Join) -> list[Any]:
            return await tf.pipeline(join(*map(paced, lists)), tf.collect(), capacity=capacity)

        assert sorted(await got(tf.merge)) == sorted(itertools.chain(*lists))
        assert await got(tf.concat) == [*itertools.chain(*lists)]
        assert await got(tf.zip) == [*builtins.zip(*lists, strict=False)]
        missing = object()
        turns = itertools.zip_longest(*lists, fillvalue=missing)
        assert await got(tf.interleave) == [item for turn in turns for item in turn if item is not missing]
        if lists and all(lists):
            assert (await got(tf.zip_latest))[-1] == tuple(items[-1] for items in lists)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(
    lists=st.lists(st.lists(st.integers(0, 9)).map(sorted), min_size=1, max_size=4),
    descending=st.booleans(),
    capacity=st.integers(1, 5),
)
def test_merge_sorted_gives_the_same_as_heapq_merge(lists: list[list[int]], descending: bool, capacity: int) -> None:
    def key(pair: tuple[int, int]) -> int:
        return -pair[0] if descending else pair[0]

    tagged = [sorted(((n, i) for n in each), key=key) for i, each in enumerate(lists)]

    async def main() -> list[Any]:
        async with tf.merge_sorted(*map(tf.from_iterable, tagged), key=key).open(capacity=capacity) as receive:
            return [item async for item in receive]

    assert trio.run(main) == list(heapq.merge(*tagged, key=key))


async def test_merge_sorted_emits_an_item_as_soon_as_nothing_smaller_can_arrive(autojump_clock: MockClock) -> None:
    got = []
    merged = tf.merge_sorted(slow([1, 5, 9]), slow([2, 3], first=0.5))

    await merged.pipe(tf.for_each(lambda n: got.append((n, trio.current_time()))))

    assert got == [(1, 0.5), (2, 1.0), (3, 1.5), (5, 2.5), (9, 2.5)]


async def test_merge_sorted_refuses_a_source_that_is_not_sorted() -> None:
    got: list[int] = []

    with pytest.raises(ValueError, match="readable 2 of 2 is not sorted: 1 came after 3") as caught:
        await tf.merge_sorted(tf.from_iterable([1, 2]), tf.from_iterable([3, 1])).pipe(tf.for_each(got.append))

    assert any("merge_sorted" in note for note in caught.value.__notes__)


def test_R1_merge_sorted_accepts_only_readables_and_a_plain_key_function() -> None:
    async def key(n: int) -> int:
        return n

    with pytest.raises(TypeError, match="merge_sorted expects Readables"):
        tf.merge_sorted([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key expects a plain function"):
        tf.merge_sorted(tf.empty(), key=key)
