"""Combine several Readables into one.

Rule 1: each runs beside the others in its own tasks, with channels of the whole run's capacity.
Rule 2: if one of them fails (R11) or the reader leaves (R9), all the others end at once.
Rule 3: items that are ready are moved in batches, and none waits for a batch to fill.
"""

from __future__ import annotations

import builtins
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, overload

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_plain
from trioflow._core.crew import Crew
from trioflow._core.makers import differing, source
from trioflow._core.moving import forward
from trioflow._core.streams import Readable
from trioflow._core.typevars import A, B, C, D, T, U
from trioflow.operators.nested import check_readables, open_all, send_all_of


@overload
def merge(a: Readable[A], b: Readable[B], /, *more: Readable[U]) -> Readable[A | B | U]: ...
@overload
def merge(*readables: Readable[T]) -> Readable[T]: ...
def merge(*readables: Readable[T]) -> Readable[Any]:
    """Yield the items of all `readables` as they arrive; items of the same one stay in order.

    Emits when: one of them has an item.
    Waits when: downstream is not ready; each of them then waits once its own channels are full.
    Ends when: all of them have ended.
    On cancel: all of them are cancelled.
    Holds: what the channels of each of them hold.

    Raises:
        TypeError: an argument is not a Readable.

    Example:
        >>> sorted(run(merge(from_iterable([1, 2]), from_iterable([3])).pipe(collect())))
        [1, 2, 3]
    """
    check_readables("merge", readables)

    async def run(output: SendChannel[T]) -> None:
        async with open_all(readables, output) as receives, Crew() as crew:
            for receive in receives:
                crew.start(forward, receive, output)

    return source(run, "merge", *readables)


@overload
def concat(a: Readable[A], b: Readable[B], /, *more: Readable[U]) -> Readable[A | B | U]: ...
@overload
def concat(*readables: Readable[T]) -> Readable[T]: ...
def concat(*readables: Readable[T]) -> Readable[Any]:
    """Yield all items of the first of `readables`, then all items of the second, and so on.

    Emits when: the current one has an item.
    Waits when: downstream is not ready.
    Ends when: the last of them has ended; each starts only when the one before it has ended.
    On cancel: the current one is cancelled.
    Holds: what the channels of the current one hold.

    Raises:
        TypeError: an argument is not a Readable.

    Example:
        >>> run(concat(from_iterable([1, 2]), from_iterable([3])).pipe(collect()))
        [1, 2, 3]
    """
    check_readables("concat", readables)

    async def run(output: SendChannel[T]) -> None:
        for readable in readables:
            await send_all_of(readable, output)

    return source(run, "concat", *readables)


@overload
def interleave(a: Readable[A], b: Readable[B], /, *more: Readable[U]) -> Readable[A | B | U]: ...
@overload
def interleave(*readables: Readable[T]) -> Readable[T]: ...
def interleave(*readables: Readable[T]) -> Readable[Any]:
    """Yield one item of each of `readables` in turn, skipping those that have ended.

    Emits when: the one whose turn it is has an item; the others wait for it, however many items they have.
    Waits when: downstream is not ready.
    Ends when: all of them have ended.
    On cancel: all of them are cancelled.
    Holds: one batch of each and one batch of output, plus what the channels hold.

    Raises:
        TypeError: an argument is not a Readable.

    Example:
        >>> run(interleave(from_iterable([1, 3, 4]), from_iterable([2])).pipe(collect()))
        [1, 2, 3, 4]
    """
    check_readables("interleave", readables)

    async def run(output: SendChannel[T]) -> None:
        async with open_all(readables, output) as receives:
            turns = deque(_Input(receive) for receive in receives)
            gathered: list[T] = []
            while turns:
                each = turns[0]
                if not each.items and not each.look():
                    await _send_all(gathered, output)
                    await each.wait()
                if not each.items:
                    turns.popleft()
                    continue
                gathered.append(each.items.popleft())
                turns.rotate(-1)
                if len(gathered) >= max(output.room(), 1):
                    await _send_all(gathered, output)
            await _send_all(gathered, output)

    return source(run, "interleave", *readables)


async def _send_all(gathered: list[T], output: SendChannel[T]) -> None:
    """Send what was gathered, and gather anew."""
    if gathered:
        items = gathered[:]
        gathered.clear()
        await output.send_many(items)


def merge_sorted(*readables: Readable[T], key: Callable[[T], Any] | None = None) -> Readable[T]:
    """Merge `readables`, each of them sorted, into one sorted Readable.

    Equal items are in the order of the arguments.

    Emits when: each of them that has not ended has an item; the smallest of these is next.
    Waits when: downstream is not ready. A silent one blocks all others, because its next item may be smaller than theirs.
    Ends when: all of them have ended.
    On cancel: all of them are cancelled.
    Holds: one batch of each and one batch of output, plus what the channels hold.

    Args:
        key: A plain function that returns the sort key of an item; by default the item itself.

    Raises:
        TypeError: an argument is not a Readable, or `key` is not a plain function; while running, two items cannot be
            compared.
        ValueError: while running, one of them is not sorted.

    Example:
        >>> run(merge_sorted(from_iterable([1, 4]), from_iterable([2, 3, 5])).pipe(collect()))
        [1, 2, 3, 4, 5]
    """
    check_readables("merge_sorted", readables)
    key_of: Callable[[Any], Any] = (lambda item: item) if key is None else check_plain("key", key)

    async def run(output: SendChannel[T]) -> None:
        async with open_all(readables, output) as receives:
            inputs = [_Input(receive) for receive in receives]
            newest: list[list[Any]] = []  # a heap with one entry for each: the key of its next item, and its number
            gathered: list[T] = []

            async def advance(number: int, last: list[Any]) -> None:
                each = inputs[number]
                if not each.items and not each.look():
                    await _send_all(gathered, output)
                    await each.wait()
                if each.items:
                    this = key_of(each.items[0])
                    if last and this < last[0]:
                        raise ValueError(
                            f"merge_sorted: readable {number + 1} of {len(inputs)} is not sorted: "
                            f"{this!r} came after {last[0]!r}"
                        )
                    heapq.heappush(newest, [this, number])

            for number in range(len(inputs)):
                await advance(number, [])
            while newest:
                this, number = heapq.heappop(newest)
                gathered.append(inputs[number].items.popleft())
                if len(gathered) >= max(output.room(), 1):
                    await _send_all(gathered, output)
                await advance(number, [this])
            await _send_all(gathered, output)

    return source(run, "merge_sorted", *readables, **differing(key=(key, None)))


@overload
def zip(a: Readable[A], /, *, strict: bool = ...) -> Readable[tuple[A]]: ...
@overload
def zip(a: Readable[A], b: Readable[B], /, *, strict: bool = ...) -> Readable[tuple[A, B]]: ...
@overload
def zip(a: Readable[A], b: Readable[B], c: Readable[C], /, *, strict: bool = ...) -> Readable[tuple[A, B, C]]: ...
@overload
def zip(
    a: Readable[A], b: Readable[B], c: Readable[C], d: Readable[D], /, *, strict: bool = ...
) -> Readable[tuple[A, B, C, D]]: ...
@overload
def zip(*readables: Readable[T], strict: bool = ...) -> Readable[tuple[T, ...]]: ...
def zip(*readables: Readable[Any], strict: bool = False) -> Readable[tuple[Any, ...]]:
    """Yield tuples with one item of each of `readables`: the first items, then the second items, and so on.

    Emits when: each of them has an item.
    Waits when: downstream is not ready.
    Ends when: one of them has ended and its items are used up; the others are cancelled, and their items are lost.
    On cancel: all of them are cancelled.
    Holds: one batch of each, plus what the channels hold.

    Args:
        strict: Whether to raise `ValueError` if one ends while another has more items. It waits for one that is silent.

    Raises:
        TypeError: an argument is not a Readable.
        ValueError: while running with `strict`, they turn out not to be equally long.

    Example:
        >>> run(zip(from_iterable(["a", "b"]), from_iterable([1, 2, 3])).pipe(collect()))
        [('a', 1), ('b', 2)]
    """
    check_readables("zip", readables)

    async def run(output: SendChannel[Any]) -> None:
        async with open_all(readables, output) as receives:
            inputs = [_Input(receive) for receive in receives]
            while inputs and await _all_have_items(inputs):
                count = min(len(each.items) for each in inputs)
                takes = [[each.items.popleft() for _ in range(count)] for each in inputs]
                await output.send_many([*builtins.zip(*takes, strict=True)])
            if strict:
                await _refuse_unequal(inputs)

    return source(run, "zip", *readables, **differing(strict=(strict, False)))


async def _all_have_items(inputs: list[_Input[Any]]) -> bool:
    """Wait until each has an item or one of them has ended; return whether each has one."""
    empty = [each for each in inputs if not each.items]
    quiet = [each for each in empty if not each.look()]
    if any(each.has_ended for each in empty):
        return False
    if len(quiet) == 1:
        await quiet[0].wait()
    elif quiet:
        async with Crew() as crew:

            async def wait(each: _Input[Any]) -> None:
                await each.wait()
                if each.has_ended:
                    crew.cancel()  # no need to wait for the others

            for each in quiet:
                crew.start(wait, each)
    return all(each.items for each in inputs)


async def _refuse_unequal(inputs: list[_Input[Any]]) -> None:
    short = next((i for i, each in enumerate(inputs, 1) if each.has_ended), 0)
    for i, each in enumerate(inputs, 1):
        if not each.items and not each.look():
            await each.wait()
        if each.items:
            raise ValueError(
                f"zip: readables must be equally long, but number {short} has ended and number {i} has more"
            )


@overload
def zip_latest(a: Readable[A], /) -> Readable[tuple[A]]: ...
@overload
def zip_latest(a: Readable[A], b: Readable[B], /) -> Readable[tuple[A, B]]: ...
@overload
def zip_latest(a: Readable[A], b: Readable[B], c: Readable[C], /) -> Readable[tuple[A, B, C]]: ...
@overload
def zip_latest(a: Readable[A], b: Readable[B], c: Readable[C], d: Readable[D], /) -> Readable[tuple[A, B, C, D]]: ...
@overload
def zip_latest(*readables: Readable[T]) -> Readable[tuple[T, ...]]: ...
def zip_latest(*readables: Readable[Any]) -> Readable[tuple[Any, ...]]:
    """Yield tuples with the newest item of each of `readables`, a new tuple for every item that arrives.

    No item is dropped. If a slow reader needs only the newest tuple, add `buffer(1, overflow="drop_oldest")`.

    Emits when: one of them has an item, and all have had at least one.
    Waits when: downstream is not ready.
    Ends when: all of them have ended, or one has ended without any item. After one ends, its last item stays in use.
    On cancel: all of them are cancelled.
    Holds: the newest item and one batch of each, plus what the channels hold.

    Raises:
        TypeError: an argument is not a Readable.

    Example:
        >>> run(zip_latest(from_iterable("a"), from_iterable([1, 2])).pipe(last()))
        ('a', 2)
    """
    check_readables("zip_latest", readables)

    async def run(output: SendChannel[Any]) -> None:
        newest: list[Any] = [None] * len(readables)
        missing = {*range(len(readables))}
        turn = trio.Lock()  # keeps an older tuple from being sent after a newer one

        async def follow(i: int, receive: ReceiveChannel[Any]) -> None:
            async for items in receive.batches():
                async with turn:
                    missing.discard(i)
                    tuples: list[tuple[Any, ...]] = []
                    for newest[i] in items if not missing else items[-1:]:
                        tuples.append(tuple(newest))
                    if not missing:
                        await output.send_many(tuples)
            if i in missing:
                crew.cancel()

        async with open_all(readables, output) as receives, Crew() as crew:
            for i, receive in enumerate(receives):
                crew.start(follow, i, receive)

    return source(run, "zip_latest", *readables)


class _Input(Generic[T]):
    """One of the Readables: items are received in batches and used one by one."""

    __slots__ = ("_receive", "has_ended", "items")

    def __init__(self, receive: ReceiveChannel[T]) -> None:
        self._receive = receive
        self.items: deque[T] = deque()
        self.has_ended = False

    def look(self) -> bool:
        """Take what is available now; return whether there was anything, including the end."""
        try:
            self.items.extend(self._receive.receive_many_nowait())
        except trio.WouldBlock:
            return False
        except trio.EndOfChannel:
            self.has_ended = True
        return True

    async def wait(self) -> None:
        """Wait for the next batch, or for the end."""
        try:
            self.items.extend(await self._receive.receive_many())
        except trio.EndOfChannel:
            self.has_ended = True
