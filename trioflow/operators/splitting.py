"""One readable for several readers, inside a block.

Rule 1: a branch is live: it runs once (R4), and what it holds is what its channel holds. None can grow (R5).
Rule 2: a branch whose reader leaves detaches, and the others go on; when none is left the source is ended (R9).
Rule 3: a source that fails ends the block, which raises its very exception (R11); who reads on outside is told it too.
Rule 4: batches pass where there is room for them; where not, items pass one by one, in their order across all branches,
    so that a reader of several branches in turn is never stuck.
Rule 5: a branch that nobody has begun to read does not hold up the reader of another for ever: that is an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import trio

from trioflow._core.adapters import Once, forward, forward_singly
from trioflow._core.block import block
from trioflow._core.buffer import DEFAULT_CAPACITY, ChannelStatistics, Overflow, check_capacity, check_overflow
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_plain
from trioflow._core.crew import open_crew
from trioflow._core.engine import Stage, StageFunction
from trioflow._core.errors import HangUp, failure_in, note
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, label
from trioflow.operators.nested import check_readables, open_all
from trioflow.operators.unread import send_in_time

T = TypeVar("T", covariant=True)
U = TypeVar("U")

Deal: TypeAlias = Callable[[ReceiveChannel[Any], list[SendChannel[Any]]], Awaitable[None]]
Channels: TypeAlias = Sequence[tuple[SendChannel[Any], ReceiveChannel[Any]]]
Branches: TypeAlias = "AbstractAsyncContextManager[tuple[Branch[U], ...]]"


class Branch(Readable[T]):
    """One of the readables that `broadcast`, `balance` and `partition` give. It runs once."""

    __slots__ = ("_receive",)

    _receive: ReceiveChannel[T]

    def statistics(self) -> ChannelStatistics:
        """Give the `ChannelStatistics` of its channel: among them what it holds and what an overflow policy dropped."""
        return self._receive.statistics()


def broadcast(
    readable: Readable[U],
    count: int,
    *,
    capacity: float = DEFAULT_CAPACITY,
    overflow: Overflow | Sequence[Overflow] = "wait",
) -> Branches[U]:
    """Give every item to each of `count` branches, for an `async with` block.

    Emits when: the source has an item and all branches that wait have room.
    Waits when: one branch is full: the slowest sets the pace. One that nobody reads stops all; open it and leave it.
    Ends when: the source ends, for each branch behind what it holds; or when all readers have left.
    On cancel: leaving the block ends the source; what was not received is lost.
    Holds: `capacity` for each branch, beside what the channels around it hold, and one batch that has room, or one item.
        The channels after a branch that drops have capacity 1, so that its items do not age there.

    Args:
        readable: The source; it starts when the block is entered.
        count: How many branches.
        capacity: What the channel of each branch, and those of the source, may hold.
        overflow: What is done when a branch is full: `"wait"`; `"drop_oldest"` or `"drop_newest"`, counted in
            `branch.statistics().dropped`; `"fail"`, which ends all by a `BufferError`. One for all, or one for each.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        trio.TooSlowError: while running, one that waits is full and nobody has begun to read it for 30 seconds, while
            the reader of another branch waits.

    Example:
        >>> async def main() -> None:
        ...     async with broadcast(from_iterable([1, 2]), 2) as (a, b):
        ...         print(await zip(a, b.pipe(map(str))).pipe(collect()))
        >>> run(main())
        [(1, '1'), (2, '2')]
    """
    check_readables("broadcast", (readable,))
    check_count("count", count, 1)
    overflows = cast("list[Overflow]", [overflow] * count if isinstance(overflow, str) else [*overflow])
    if len(overflows) != count:
        raise ValueError(f"overflow must be one policy for all branches or one for each of {count}, not {overflow!r}")
    for each in overflows:
        check_overflow(each)
    check_capacity(capacity)
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
    # Those that drop come first: what they may drop need not wait for the others.
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
    """Give each item to one of `count` branches, the one that `key(item)` tells, for an `async with` block.

    Emits when: the source has an item and the branch it is for has room.
    Waits when: that branch is full: then the others wait too. One that nobody reads stops all when it is full.
    Ends when: the source ends, for each branch behind what it holds; or when all readers have left. Items for a branch
        whose reader has left are passed over.
    On cancel: leaving the block ends the source; what was not received is lost.
    Holds: `capacity` for each branch, beside what the channels around it hold, and one batch.

    Args:
        readable: The source; it starts when the block is entered.
        key: A plain function that gives the branch's number, from 0; a bool will do for two.
        count: How many branches.
        capacity: What the channel of each branch, and those of the source, may hold.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; while running, what `key` gave is.
        trio.TooSlowError: as `broadcast` does, for a full branch that nobody has begun to read.

    Example:
        >>> async def main() -> None:
        ...     async with partition(from_iterable(range(5)), lambda n: n % 2, 2) as (even, odd):
        ...         print(await even.pipe(collect()), await odd.pipe(collect()))
        >>> run(main())
        [0, 2, 4] [1, 3]
    """
    check_readables("partition", (readable,))
    check_plain("partition", key)
    check_count("count", count, 1)
    check_capacity(capacity)

    def index_of(item: Any) -> int:
        index = key(item)
        if not (isinstance(cast("object", index), int) and 0 <= index < count):
            raise ValueError(f"partition wants a number from 0 to {count - 1} for each item, not {index!r}")
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
    """Give each item to one of `count` branches, the one that is ready for it first, for an `async with` block.

    Emits when: the source has an item and the reader of a branch has taken the one before.
    Waits when: no branch is ready.
    Ends when: the source ends, for each branch behind what it holds; or when all readers have left.
    On cancel: leaving the block ends the source. What a branch has taken is lost with its reader.
    Holds: `capacity`, which all branches share, and one item for each, beside what the source's channels hold.

    Args:
        readable: The source; it starts when the block is entered.
        count: How many branches.
        capacity: What the shared channel, and those of the source, may hold.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> async def main() -> None:
        ...     async with balance(from_iterable(range(5)), 2) as workers:
        ...         print(sorted(await merge(*workers).pipe(collect())))
        >>> run(main())
        [0, 1, 2, 3, 4]
    """
    check_readables("balance", (readable,))
    check_count("count", count, 1)
    check_capacity(capacity)

    def make() -> Channels:
        send, receive = open_channel[Any](capacity)
        with receive:
            return [(send, receive.clone()) for _ in range(count)]

    async def deal(source: ReceiveChannel[Any], outputs: list[SendChannel[Any]]) -> None:
        await forward(source, outputs[0])

    return _split(readable, "balance", make, deal, is_shared=True)


def _numbered(name: str, outputs: list[SendChannel[Any]]) -> Callable[[SendChannel[Any]], str]:
    return lambda output: f"{name}[{outputs.index(output)}]"


def _take(
    source: ReceiveChannel[Any], how: Callable[[ReceiveChannel[Any], SendChannel[Any]], Awaitable[None]]
) -> StageFunction:
    async def run(output: SendChannel[Any]) -> None:
        with source:
            await how(source, output)

    return run


@block
async def _split(
    readable: Readable[Any], name: str, make: Callable[[], Channels], deal: Deal, *, is_shared: bool = False
) -> AsyncGenerator[tuple[Branch[Any], ...], None]:
    """Run `readable` beside the block; `deal` gives its items to the branches."""
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
        # What one branch has taken is lost to the others, or to what is fresher, while its reader is busy.
        run = Once(_take(receive, forward_singly if is_shared or drops else forward), "a branch", receive)
        stage = Stage(label(f"{name}[{i}]", readable), function=run, drops=drops, release=run.release)
        branch: Branch[Any] = Branch._of(stage)
        branch._receive = receive
        branches.append(branch)
    async with open_crew() as crew:
        crew.start(feed)
        yield tuple(branches)
        crew.cancel()
