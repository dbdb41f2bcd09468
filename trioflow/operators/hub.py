"""Share one Readable with subscribers that join and leave while it runs.

Rule 1: a subscriber gets the items that arrive after it joined, through its own channel, with its own capacity and
    overflow policy.
Rule 2: a subscriber that waits sets the pace; one that drops or fails blocks no other. When one leaves, the others
    continue.
Rule 3: if the source fails, the block raises the original exception (R11), and so does every subscriber.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from trioflow._core.block import block
from trioflow._core.buffer import DEFAULT_CAPACITY, Overflow, check_overflow, light_size
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_limit
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage, open_readable
from trioflow._core.errors import failure_in
from trioflow._core.makers import differing
from trioflow._core.one_by_one import one_by_one
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, label
from trioflow.operators.nested import check_readable

T = TypeVar("T")


class _Subscriber(NamedTuple):
    send: SendChannel[Any]
    is_lossless: bool


class Hub(Generic[T]):
    """A running source that `subscribe` shares with any number of readers. `hub` makes it; do not make one yourself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._subscribers: list[_Subscriber] = []  # those that drop come first, so that they wait for no other
        self._count = 0  # how many have joined so far
        self._joined = trio.Event()  # replaced each time a subscriber joins
        self._is_over = False
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Hub {self._name}, {self.subscribers} subscribers>"

    @property
    def subscribers(self) -> int:
        """The number of current subscribers."""
        return len(self._subscribers)

    def subscribe(self, *, capacity: float = DEFAULT_CAPACITY, overflow: Overflow = "wait") -> Readable[T]:
        """Return a `Readable` of the items that arrive while it runs; each run joins when it starts and leaves at its end.

        Emits when: the hub's source has an item.
        Waits when: the source is silent.
        Ends when: the source has ended, after what this subscriber's channel holds.
        On cancel: it leaves, and what its channel holds is lost.
        Holds: `capacity`, plus what the channels after it hold. If it may drop items, those have capacity 1, so that items
            do not grow old there.

        Args:
            capacity: The capacity of this subscriber's channel.
            overflow: What to do when it is full: `"wait"`, which makes the source and all other subscribers wait;
                `"drop_oldest"` or `"drop_newest"`; or `"fail"`, which ends only this subscriber, with `BufferError`.

        Raises:
            TypeError, ValueError: an argument has the wrong type or is out of range.
            trio.BrokenResourceError: while running, the hub's block was left.
        """
        check_limit("capacity", capacity)
        check_overflow(overflow)

        def join() -> ReceiveChannel[T]:
            send, receive = open_channel[T](capacity, overflow=overflow)
            one = _Subscriber(send, is_lossless=overflow == "wait")
            send._on_hang_up(lambda: self._leave(one))  # at once, and not only at the source's next item
            self._join(one)
            return receive if one.is_lossless else one_by_one(receive)

        options = differing(capacity=(capacity, DEFAULT_CAPACITY), overflow=(overflow, "wait"))
        name = label(f"{self._name}.subscribe", **options)
        return Readable._of(Stage(name, channel=join, drops=overflow != "wait"))

    def _join(self, one: _Subscriber) -> None:
        if self._is_over:
            self._end(one)
            return
        self._subscribers.insert(len(self._subscribers) if one.is_lossless else 0, one)
        self._count += 1
        self._joined.set()
        self._joined = trio.Event()

    def _leave(self, one: _Subscriber) -> None:
        one.send.close()
        if one in self._subscribers:
            self._subscribers.remove(one)

    async def _feed(self, source: ReceiveChannel[Any], start_after: int) -> None:
        while self._count < start_after:
            await self._joined.wait()
        while True:
            room = min((one.send.room() for one in self._subscribers if one.is_lossless), default=DEFAULT_CAPACITY)
            try:
                items = await source.receive_many(max(int(min(room, DEFAULT_CAPACITY)), 1))
            except trio.EndOfChannel:
                return
            await self._send_to_all(items)

    async def _send_to_all(self, items: list[Any]) -> None:
        """Send the whole batch to subscribers that have room for it, and to the others one item at a time, in turn."""
        full: list[_Subscriber] = []
        size = light_size(items)  # once for all subscribers
        for one in [*self._subscribers]:
            if not one.send._try_send_many(items, size):
                try:
                    one.send.send_many_nowait(items)
                except trio.WouldBlock:
                    full.append(one)
        for item in items if full else ():
            for one in [*full]:
                try:
                    await one.send.send(item)
                except trio.ClosedResourceError:  # it has left
                    full.remove(one)
                except BufferError as exc:
                    full.remove(one)
                    one.send._abort_with(exc, "")
                    self._leave(one)

    def _close(self, failure: BaseException | None, *, is_cut: bool) -> None:
        """End every subscriber, also those that join later."""
        self._is_over = True
        if is_cut:
            self._failure = failure or trio.BrokenResourceError(f"the block of {self._name} was left")
        for one in self._subscribers:
            self._end(one)
        self._subscribers.clear()

    def _end(self, one: _Subscriber) -> None:
        if self._failure is not None:
            one.send._abort_with(self._failure, "")
        one.send.close()


def hub(readable: Readable[T], *, start_after: int = 0) -> AbstractAsyncContextManager[Hub[T]]:
    """Run `readable` for subscribers that join and leave at any time; use it as an `async with` block that yields a `Hub`.

    Items that arrive while there is no subscriber are dropped.

    Emits when: the source has an item; every current subscriber gets it.
    Waits when: a subscriber with `"wait"` is full, or fewer than `start_after` have joined so far.
    Ends when: the source ends, and each subscriber after what its channel holds. The block continues until you leave it.
    On cancel: leaving the block cancels the source, and subscribers get `trio.BrokenResourceError`.
    Holds: the capacity of each subscriber and one batch, plus what the source's channels hold.

    Args:
        readable: The source; it starts when the block is entered.
        start_after: How many subscribers to wait for before taking the first item.

    Raises:
        TypeError: `readable` is not a Readable, or `start_after` is not an int.
        ValueError: `start_after` is below 0.

    Example:
        >>> async def main() -> None:
        ...     async with hub(from_iterable([1, 2]), start_after=2) as numbers:
        ...         both = merge(
        ...             numbers.subscribe(), numbers.subscribe().pipe(map(lambda n: 10 * n))
        ...         )
        ...         print(sorted(await both.pipe(collect())))
        >>> run(main())
        [1, 2, 10, 20]
    """
    check_readable("hub", readable)
    check_count("start_after", start_after, 0)
    return _opened(readable, start_after)


@block
async def _opened(readable: Readable[T], start_after: int) -> AsyncGenerator[Hub[T], None]:
    made = Hub[T](label("hub", readable)())

    async def feed() -> None:
        try:
            async with open_readable(readable._stages, DEFAULT_CAPACITY) as source:
                await made._feed(source, start_after)
        except BaseException as exc:
            made._close(failure_in(exc), is_cut=True)
            raise
        made._close(None, is_cut=False)

    async with Crew() as crew:
        crew.start(feed)
        try:
            yield made
        finally:
            made._close(None, is_cut=not made._is_over)
        crew.cancel()
