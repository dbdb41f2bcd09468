"""Buffers between stages of different speed: a stage that holds items, and a source that others push items into.

Rule 1: the items held weigh at most `capacity` (R5). When there is no more room, either the sender waits or items are
    dropped and counted (R6).
Rule 2: a buffer that drops passes an item on only after the reader has taken the one before. Otherwise items would wait in
    the channels after this stage, where nothing is dropped.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Literal, TypeAlias

import trio

from trioflow._core.adapters import Once
from trioflow._core.buffer import DEFAULT_CAPACITY, Overflow, check_overflow, weight_of
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_limit
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage
from trioflow._core.makers import differing
from trioflow._core.moving import forward, forward_singly
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, Transform, label
from trioflow._core.typevars import T

Offered: TypeAlias = Literal["accepted", "dropped", "closed"]
"""What `queue.offer` did with an item: `"closed"` means that the queue is closed or its reader has left."""


class buffer(Transform[T, T]):  # noqa: N801 - called as a function, `buffer(16)`
    """Hold up to `capacity` items for a reader that is slow at times; when full, wait, drop or fail.

    Emits when: it has an item and, if it may drop items, the reader has taken everything sent so far.
    Waits when: it is full and `overflow` is `"wait"`; otherwise never.
    Ends when: the source has ended and everything held has been sent.
    On cancel: what it holds is lost.
    Holds: `capacity`. If it may drop items, the channels after it have capacity 1, so that items do not grow old there.

    Args:
        capacity: The weight to hold, 1 or more; `math.inf` for no limit. With 1 and `"drop_oldest"` it keeps only the
            newest item.
        overflow: What to do when it is full: `"wait"`; `"drop_oldest"` or `"drop_newest"`, counted in `dropped`; or
            `"fail"`, which raises `BufferError`.

    Raises:
        TypeError: `capacity` is neither an int nor `math.inf`.
        ValueError: `capacity` is below 1, or `overflow` is not one of the four.

    Example:
        >>> newest = buffer(2, overflow="drop_oldest")
        >>> run(from_iterable(range(1000)).pipe(newest).pipe(last()))
        999
        >>> newest.dropped > 0
        True
    """

    __slots__ = ("_capacity", "_ended", "_is_lossless", "_overflow", "_running")

    def __init__(self, capacity: float, *, overflow: Overflow = "wait") -> None:
        self._capacity = check_limit("capacity", capacity)
        self._overflow: Overflow = check_overflow(overflow)
        self._ended = 0  # dropped by runs that have ended
        self._running: list[SendChannel[T]] = []
        name = label("buffer", capacity, **differing(overflow=(overflow, "wait")))
        self._is_lossless = overflow == "wait"
        self._set(Stage(name, function=self._run, passes_on=self._is_lossless, drops=not self._is_lossless))

    @property
    def dropped(self) -> int:
        """How many items all runs of this buffer have dropped so far."""
        return self._ended + sum(send.statistics().dropped for send in self._running)

    async def _run(self, source: ReceiveChannel[T], output: SendChannel[T]) -> None:
        send, receive = open_channel[T](self._capacity, overflow=self._overflow)
        self._running.append(send)
        try:
            async with Crew() as crew:
                crew.start(_fill, source, send)
                await (forward if self._is_lossless else forward_singly)(receive, output)
        finally:
            receive.close()
            self._running.remove(send)
            self._ended += send.statistics().dropped


async def _fill(source: ReceiveChannel[T], send: SendChannel[T]) -> None:
    with send:
        await forward(source, send)


class queue(Readable[T]):  # noqa: N801 - called as a function, `queue[str](16)`
    """A source that you push items into, also from callbacks and other threads.

    `offer` never waits; `send` waits while the queue is full.

    Emits when: an item has been pushed.
    Waits when: never; `capacity` limits what it holds.
    Ends when: it has been closed and everything held has been sent.
    On cancel: what it holds is lost, and it is closed.
    Holds: `capacity`, and as much again on its way to the reader. With `"drop_oldest"`, `capacity` and one item: the
        channels after it have capacity 1, so that items do not grow old there.

    It can run only once. Items pushed before the run starts are held.

    Args:
        capacity: The weight to hold, 1 or more; `math.inf` for no limit.
        overflow: What `offer` does when it is full: `"drop_newest"` refuses the item, `"drop_oldest"` drops others to
            make room for it. `dropped` counts both.

    Raises:
        TypeError: `capacity` is neither an int nor `math.inf`.
        ValueError: `capacity` is below 1, or `overflow` is not one of the two.

    Example:
        >>> numbers = queue[int](capacity=2)
        >>> [numbers.offer(n) for n in range(3)]
        ['accepted', 'accepted', 'dropped']
        >>> numbers.close()
        >>> run(numbers.pipe(collect()))
        [0, 1]
    """

    __slots__ = (
        "_capacity", "_is_closed", "_items", "_lock", "_overflow", "_room", "_token", "_turn", "_used", "_wanted",
        "dropped",
    )  # fmt: skip

    def __init__(
        self,
        capacity: float = DEFAULT_CAPACITY,
        *,
        overflow: Literal["drop_newest", "drop_oldest"] = "drop_newest",
    ) -> None:
        if overflow not in ("drop_newest", "drop_oldest"):
            raise ValueError(f"queue: overflow must be 'drop_newest' or 'drop_oldest', got {overflow!r}")
        self._capacity = check_limit("capacity", capacity)
        self._overflow = overflow
        self.dropped = 0
        self._items: deque[T] = deque()
        self._used = 0
        self._is_closed = False
        self._lock = threading.Lock()  # guards all of these; never held across an await
        self._token: trio.lowlevel.TrioToken | None = None  # of the Trio run that uses this queue
        self._wanted: trio.Event | None = None  # set to wake the run
        self._room: trio.Event | None = None  # set to wake the first task in `send`
        self._turn = trio.StrictFIFOLock()
        run = Once(self._run, "this queue", self)
        drops = overflow == "drop_oldest"
        self._set(Stage(label("queue", capacity), function=run, drops=drops, release=run.release))

    def offer(self, item: T) -> Offered:
        """Push one item without waiting, from any thread; return `"accepted"`, `"dropped"` or `"closed"`.

        With `"drop_oldest"` an item is always accepted, until the queue is closed or its reader has left.
        """
        weight = weight_of(item)
        with self._lock:
            if self._is_closed:
                return "closed"
            if not self._fits(weight):
                if self._overflow == "drop_newest":
                    self.dropped += 1
                    return "dropped"
                while not self._fits(weight):
                    self._used -= weight_of(self._items.popleft())
                    self.dropped += 1
            self._put(item, weight)
            wanted, self._wanted = self._wanted, None
        self._wake(wanted)
        return "accepted"

    async def send(self, item: T) -> None:
        """Push one item, waiting while the queue is full. If it is cancelled, the item was not sent.

        Raises:
            trio.ClosedResourceError: the queue was closed or its reader left, before the call or while it waited.
        """
        weight = weight_of(item)
        wanted = None
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        async with self._turn:
            while True:
                with self._lock:
                    if self._is_closed:
                        raise trio.ClosedResourceError("this queue is closed, or its reader has left")
                    if self._fits(weight):
                        self._put(item, weight)
                        wanted, self._wanted = self._wanted, None
                        break
                    room = self._room = trio.Event()
                await room.wait()
        self._wake(wanted)

    def close(self) -> None:
        """End the source once everything it holds has been sent; from any thread. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            wanted, self._wanted = self._wanted, None
            room, self._room = self._room, None
        self._wake(wanted)
        self._wake(room)

    def _fits(self, weight: int) -> bool:
        return self._used + weight <= self._capacity or not self._items

    def _put(self, item: T, weight: int) -> None:
        self._items.append(item)
        self._used += weight

    def _wake(self, event: trio.Event | None) -> None:
        """Set `event` in the thread that waits for it."""
        if event is None:
            return
        try:
            is_here = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:  # there is no Trio in this thread
            is_here = False
        if is_here or self._token is None:
            event.set()
            return
        try:
            self._token.run_sync_soon(event.set)
        except trio.RunFinishedError:
            pass  # Trio's run has ended, and its tasks with it

    async def _run(self, output: SendChannel[T]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        most = 1 if self._overflow == "drop_oldest" else sys.maxsize
        try:
            while True:
                await output._wait_empty()
                with self._lock:
                    items = [self._items.popleft() for _ in range(min(len(self._items), most))]
                    self._used = self._used - sum(map(weight_of, items)) if self._items else 0
                    room, self._room = self._room, None
                    wanted = None
                    if not items:
                        if self._is_closed:
                            return
                        wanted = self._wanted = trio.Event()
                self._wake(room)
                if wanted is None:
                    await output.send_many(items)
                else:
                    await wanted.wait()
        finally:
            self.close()
            self._items.clear()
