"""Split one Readable into branches for several readers, inside a block.

Rule 1: a branch is live: it can run only once (R4), and it holds what its channel holds, which is bounded (R5).
Rule 2: when the reader of a branch leaves, the others continue; when all have left, the source is cancelled (R9).
Rule 3: if the source fails, the block raises the original exception (R11), and so do branches that are still being read.
Rule 4: batches are sent whole if there is room. If not, items are sent one by one, in the same order to all branches, so
    that a task that reads several branches in turn does not deadlock.
Rule 5: a branch that is never read does not block the reader of another forever; that is an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import trio

from trioflow._core.adapters import only_once
from trioflow._core.block import block
from trioflow._core.buffer import DEFAULT_CAPACITY, ChannelStatistics, Overflow, check_overflow
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_limit, check_plain
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage
from trioflow._core.errors import HangUp, failure_in, note
from trioflow._core.moving import forward
from trioflow._core.one_by_one import one_by_one
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, label
from trioflow.operators.nested import check_readable, open_all
from trioflow.operators.unread import send_in_time

T = TypeVar("T", covariant=True)
U = TypeVar("U")

Deal: TypeAlias = Callable[[ReceiveChannel[Any], list[SendChannel[Any]]], Awaitable[None]]
Channels: TypeAlias = Sequence[tuple[SendChannel[Any], ReceiveChannel[Any]]]
Branches: TypeAlias = "AbstractAsyncContextManager[tuple[Branch[U], ...]]"


class Branch(Readable[T]):
    """One of the Readables that `broadcast`, `balance` and `partition` yield. It can run only once."""

    __slots__ = ("_receive",)

    _receive: ReceiveChannel[T]

    def statistics(self) -> ChannelStatistics:
        """Return the `ChannelStatistics` of its channel, which include how much it holds and how many items it dropped."""
        return self._receive.statistics()


def broadcast(
    readable: Readable[U],
    count: int,
    *,
    capacity: float = DEFAULT_CAPACITY,
    overflow: Overflow | Sequence[Overflow] = "wait",
) -> Branches[U]:
    """Send every item to each of `count` branches; use it as an `async with` block that yields them.

    Emits when: the source has an item and all branches with `"wait"` have room.
    Waits when: a branch with `"wait"` is full, so the slowest one sets the pace. A branch that is never read blocks all the
        others; if you do not need it, open it and leave it.
    Ends when: the source ends, and each branch after what it holds; or when all readers have left.
    On cancel: leaving the block cancels the source, and items that were not received are lost.
    Holds: `capacity` for each branch, plus what the channels around it hold, and one batch. The channels after a branch
        that drops have capacity 1, so that items do not grow old there.

    Args:
        readable: The source; it starts when the block is entered.
        count: How many branches to make.
        capacity: The capacity of each branch's channel, and of the source's channels.
        overflow: What to do when a branch is full: `"wait"`; `"drop_oldest"` or `"drop_newest"`, counted in
            `branch.statistics().dropped`; or `"fail"`, which ends everything with `BufferError`. Pass one policy for all
            branches, or a list with one for each.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        trio.TooSlowError: while running, a branch with `"wait"` has been full for 30 seconds and nothing has ever read it,
            while the reader of another branch waits.

    Example:
        >>> async def main() -> None:
        ...     async with broadcast(from_iterable([1, 2]), 2) as (a, b):
        ...         print(await zip(a, b.pipe(map(str))).pipe(collect()))
        >>> run(main())
        [(1, '1'), (2, '2')]
    """
    check_readable("broadcast", readable)
    check_count("count", count, 1)
    overflows = cast("list[Overflow]", [overflow] * count if isinstance(overflow, str) else [*overflow])
    if len(overflows) != count:
        raise ValueError(
            f"broadcast: overflow must be one policy, or one for each of {count} branches, got {overflow!r}"
        )
    for each in overflows:
        check_overflow(each)
    check_limit("capacity", capacity)
    return _split(
        readable,
        "broadcast",
        lambda: [open_channel(capacity, overflow=each) for each in overflows],
        partial(_deal_to_all, overflows),
    )


async def _deal_to_all(
    overflows: Sequence[Overflow], source: ReceiveChannel[Any], outputs: list[SendChannel[Any]]
) -> None:
    lossless = {output for output, overflow in zip(outputs, overflows, strict=True) if overflow == "wait"}
    # Branches that drop come first, so that they do not wait for the others.
    live = sorted(outputs, key=lossless.__contains__)
    name = _numbered("broadcast", outputs)
    while True:
        room = min((output.room() for output in live if output in lossless), default=DEFAULT_CAPACITY)
        try:
            items = await source.receive_many(max(int(min(room, DEFAULT_CAPACITY)), 1))
        except trio.EndOfChannel:
            return
        slow: list[SendChannel[Any]] = []
        for output in list(live):
            try:
                output.send_many_nowait(items)
            except trio.WouldBlock:
                slow.append(output)
            except HangUp:
                live.remove(output)
        for item in items if slow else ():
            for output in list(slow):
                try:
                    await send_in_time(output, item, outputs, name)
                except HangUp:
                    slow.remove(output)
                    live.remove(output)


def partition(
    readable: Readable[U],
    key: Callable[[U], int],
    count: int,
    *,
    capacity: float = DEFAULT_CAPACITY,
) -> Branches[U]:
    """Send each item to branch number `key(item)` of `count`; use it as an `async with` block that yields the branches.

    Emits when: the source has an item and its branch has room.
    Waits when: its branch is full; the other branches then wait too. A full branch that is never read blocks all others.
    Ends when: the source ends, and each branch after what it holds; or when all readers have left. Items for a branch
        whose reader has left are dropped.
    On cancel: leaving the block cancels the source, and items that were not received are lost.
    Holds: `capacity` for each branch, plus what the channels around it hold, and one batch.

    Args:
        readable: The source; it starts when the block is entered.
        key: A plain function that returns the number of a branch, from 0, or a bool if there are two branches.
        count: How many branches to make.
        capacity: The capacity of each branch's channel, and of the source's channels.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; while running, `key` returns something
            that is not the number of a branch.
        trio.TooSlowError: as with `broadcast`, for a full branch that is never read.

    Example:
        >>> async def main() -> None:
        ...     async with partition(from_iterable(range(5)), lambda n: n % 2, 2) as (even, odd):
        ...         print(await even.pipe(collect()), await odd.pipe(collect()))
        >>> run(main())
        [0, 2, 4] [1, 3]
    """
    check_readable("partition", readable)
    check_plain("partition", key)
    check_count("count", count, 1)
    check_limit("capacity", capacity)

    def index_of(item: Any) -> int:
        index = key(item)
        if not (isinstance(cast("object", index), int) and 0 <= index < count):
            raise ValueError(f"partition: key must return an int from 0 to {count - 1}, got {index!r}")
        return index

    async def deal(source: ReceiveChannel[Any], outputs: list[SendChannel[Any]]) -> None:
        name = _numbered("partition", outputs)
        async for items in source.batches():
            parts: list[list[Any]] = [[] for _ in outputs]
            indices = [index_of(item) for item in items]
            for item, index in zip(items, indices, strict=True):
                parts[index].append(item)
            slow: set[int] = set()
            for index, part in enumerate(parts):
                try:
                    outputs[index].send_many_nowait(part)
                except trio.WouldBlock:
                    slow.add(index)
                except HangUp:
                    pass
            for item, index in zip(items, indices, strict=True):
                if index in slow:
                    try:
                        await send_in_time(outputs[index], item, outputs, name)
                    except HangUp:
                        slow.remove(index)

    return _split(readable, "partition", lambda: [open_channel(capacity) for _ in range(count)], deal)


def balance(readable: Readable[U], count: int, *, capacity: float = DEFAULT_CAPACITY) -> Branches[U]:
    """Send each item to the first of `count` branches that is ready; use it as an `async with` block that yields them.

    Emits when: the source has an item and the reader of a branch has taken its last one.
    Waits when: no branch is ready.
    Ends when: the source ends, and each branch after what it holds; or when all readers have left.
    On cancel: leaving the block cancels the source. An item that a branch has taken is lost with its reader.
    Holds: `capacity`, which all branches share, and one item for each, plus what the source's channels hold.

    Args:
        readable: The source; it starts when the block is entered.
        count: How many branches to make.
        capacity: The capacity of the shared channel, and of the source's channels.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> async def main() -> None:
        ...     async with balance(from_iterable(range(5)), 2) as workers:
        ...         print(sorted(await merge(*workers).pipe(collect())))
        >>> run(main())
        [0, 1, 2, 3, 4]
    """
    check_readable("balance", readable)
    check_count("count", count, 1)
    check_limit("capacity", capacity)

    def make() -> Channels:
        send, receive = open_channel[Any](capacity)
        with receive:
            return [(send, receive.clone()) for _ in range(count)]

    async def deal(source: ReceiveChannel[Any], outputs: list[SendChannel[Any]]) -> None:
        await forward(source, outputs[0])

    return _split(readable, "balance", make, deal, is_shared=True)


def _numbered(name: str, outputs: list[SendChannel[Any]]) -> Callable[[SendChannel[Any]], str]:
    return lambda output: f"{name}[{outputs.index(output)}]"


@block
async def _split(
    readable: Readable[Any], name: str, make: Callable[[], Channels], deal: Deal, *, is_shared: bool = False
) -> AsyncGenerator[tuple[Branch[Any], ...], None]:
    """Run `readable` beside the block; `deal` sends its items to the branches."""
    channels = make()
    outputs = [send for send, _ in channels]
    what = label(name, readable)
    scope = trio.CancelScope()

    def leave() -> None:
        if all(output._reader_has_left for output in outputs):
            scope.cancel()

    async def feed() -> None:
        try:
            with scope:
                async with open_all([readable], outputs[0]) as [source]:
                    await deal(source, outputs)
        except BaseException as exc:
            failure = failure_in(exc)
            if failure is not None:
                note(failure, f"in {what()}")
            for output in outputs:
                output._abort_with(failure, f"the block of {what()} was left")
            raise
        finally:
            for output in outputs:
                output.close()

    branches: list[Branch[Any]] = []
    for i, (output, receive) in enumerate(channels):
        output._on_hang_up(leave)
        drops = receive._overflow != "wait"
        # One item at a time: one taken for a busy reader can neither go to another branch nor make way for a newer item.
        end = one_by_one(receive) if is_shared or drops else receive
        once = only_once(end, "a branch")
        stage = Stage(label(f"{name}[{i}]", readable), channel=once, drops=drops, release=once.release)
        branch: Branch[Any] = Branch._of(stage)
        branch._receive = end
        branches.append(branch)
    async with Crew() as crew:
        crew.start(feed)
        yield tuple(branches)
        crew.cancel()
