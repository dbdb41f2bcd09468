"""Backpressure is decided here: `Buffer.fits` says whether an item may be put, and if it may not, its sender waits in line.

A buffer is what the two ends of a channel share: the items, their weight, the waiting tasks, and the callbacks.

Rule 1: held items weigh at most `capacity`. A heavier item is admitted only to an empty buffer, to avoid deadlock (R5).
Rule 2: a woken task checks again and takes an item itself; it is never handed one, so cancelling it loses nothing. Only
    `wait_in` awaits.
Rule 3: each end is served first come, first served. A task goes ahead of those that wait at its end only if there is room,
    or an item, for all of them too: if it waited as well, tasks that share an end would switch for each item, 10 µs.
Rule 4: a failure discards the held items and so overtakes them (R12), unless it was told to arrive after them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar, cast

from trio.lowlevel import Abort, checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

T = TypeVar("T")

DEFAULT_CAPACITY: Final = 256
PAGE: Final = 4096  # bytes that weigh 1
Overflow = Literal["wait", "drop_oldest", "drop_newest", "fail"]

_LIGHT_TYPES: Final = frozenset((int, float, str, tuple, list, dict, bool, type(None)))  # the usual ones, found sooner


def size_of(item: object) -> int:
    """Return a bytes-like item's size in bytes, 0 for any other item."""
    if isinstance(item, memoryview):
        return item.nbytes
    if isinstance(item, (bytes, bytearray)):
        return len(item)
    return 0


def weight_of(item: object) -> int:
    """Return an item's weight: 1, or for a bytes-like one 1 for each started 4 KiB (R5)."""
    if type(item) in _LIGHT_TYPES or not isinstance(item, (bytes, bytearray, memoryview)):
        return 1
    return (size_of(item) + PAGE - 1) // PAGE or 1


def light_size(items: Sequence[object]) -> int | None:
    """Return the total bytes of `items` if each surely weighs 1, else None. 30 ns an item; weighing each takes 200."""
    kinds = set(map(type, items))
    bytes_like = [kind for kind in kinds if issubclass(kind, (bytes, bytearray, memoryview))]
    if not bytes_like:
        return 0
    if len(bytes_like) < len(kinds) or memoryview in kinds:
        return None
    sizes = list(map(len, cast("Sequence[bytes]", items)))
    return sum(sizes) if max(sizes) <= PAGE else None


def check_overflow(overflow: Overflow) -> Overflow:
    """Return `overflow` if it is one of the policies."""
    if overflow not in ("wait", "drop_oldest", "drop_newest", "fail"):
        raise ValueError(f"overflow must be 'wait', 'drop_oldest', 'drop_newest' or 'fail', got {overflow!r}")
    return overflow


class ChannelStatistics(NamedTuple):
    """A snapshot of what a channel holds and has passed on.

    `used`, `peak` and `capacity` are weights: an item weighs 1, a bytes-like one 1 for each started 4 KiB. `items` and
    `bytes` count everything that was ever sent. `dropped` counts items dropped by the overflow policy, `discarded` those
    left in the channel when its last reader closed.
    """

    capacity: float
    used: int
    peak: int
    items: int
    bytes: int
    dropped: int
    discarded: int
    open_send_channels: int
    open_receive_channels: int
    tasks_waiting_send: int
    tasks_waiting_receive: int


class Waiter:
    """A task that waits in line, the room it needs, and what may be done with an item without waking it."""

    __slots__ = ("in_place", "is_asleep", "need", "since", "task")

    def __init__(self, need: int, in_place: Callable[[], bool] | None) -> None:
        self.need = need
        self.in_place = in_place
        self.task = current_task()
        self.is_asleep = False
        self.since = 0.0  # when it began to wait, if a monitor watches

    def abort(self, _: object) -> Abort:
        self.is_asleep = False
        return Abort.SUCCEEDED

    def wake(self) -> None:
        if self.is_asleep:
            self.is_asleep = False
            reschedule(self.task)

    def item_came(self) -> None:
        if self.in_place is None or not self.is_asleep or not self.in_place():
            self.wake()


class Buffer(Generic[T]):
    """What the two ends of a channel share. Users see only the ends."""

    __slots__ = (
        "_discarded_bytes", "bytes", "capacity", "claimed", "clock", "count", "discarded", "dropped", "ended_at", "excess",
        "expected", "failure", "failure_seen", "is_looped", "items", "on_abort", "on_hang_up", "on_wanted", "overflow", "peak",
        "receivers", "receiving", "receiving_waited", "run_capacity", "senders", "sending", "sending_waited", "stride",
    )  # fmt: skip

    def __init__(self, capacity: float, overflow: Overflow) -> None:
        self.capacity = capacity
        self.run_capacity = capacity  # that of its run, which is larger after a stage that drops
        self.overflow: Overflow = overflow
        self.stride = DEFAULT_CAPACITY if capacity >= DEFAULT_CAPACITY else int(capacity)
        self.excess = self.peak = self.count = self.bytes = self.dropped = self.discarded = 0
        self.senders = self.receivers = 0  # open ends
        self.sending: list[Waiter] = []  # tasks that wait to send, and to receive
        self.receiving: list[Waiter] = []
        self.claimed = 0  # the weight that the tasks in `sending` need
        self.failure: BaseException | None = None
        self.failure_seen = False
        self.on_abort: dict[object, Callable[[BaseException], None]] | None = None  # see `tell_abort`
        self.on_hang_up: Callable[[], None] | None = None
        self.on_wanted: Callable[[], None] | None = None  # called when a reader begins to wait
        self._discarded_bytes = 0
        self.is_looped = False  # whether a loop pops items without weighing them, see `generators.py`
        self.clock: Callable[[], float] | None = None  # set by a monitor: then waiting is timed
        self.ended_at: float | None = None
        self.sending_waited = self.receiving_waited = 0.0  # seconds
        self.expected: int | None = None  # how many bytes will be sent in all, if known
        # `excess` is what the items weigh beyond 1 each. While it is 0, items can be popped without weighing them.
        self.items: deque[T] = deque()

    @property
    def used(self) -> int:
        """The weight of the held items."""
        return len(self.items) + self.excess

    @property
    def ended(self) -> bool:
        """Whether all senders have closed; held items can still be received."""
        return not self.senders

    @property
    def empty(self) -> bool:
        return not self.items

    def taken(self) -> tuple[int, int]:
        """Return how many items, and bytes, have been received."""
        held = sum(map(size_of, self.items)) if self.bytes else 0
        return self.count - len(self.items) - self.discarded, self.bytes - held - self._discarded_bytes

    def room(self) -> float:
        """Return the weight that can be put now, without what the senders that wait need."""
        room = self.capacity - len(self.items) - self.excess - self.claimed
        return room if room > 0 else 0

    def fits(self, weight: int) -> bool:
        """Return whether an item of that weight may be put now."""
        return len(self.items) + self.excess + weight <= self.capacity or not self.items

    def check(self) -> None:
        if self.failure is not None:
            self.failure_seen = True
            raise self.failure

    def put(self, item: T, weight: int) -> None:
        """Append `item`. The caller has checked that it fits."""
        self.items.append(item)
        self.count += 1
        if type(item) not in _LIGHT_TYPES:
            self.bytes += size_of(item)
        self._added(weight - 1)

    def put_light(self, items: Sequence[T], size: int) -> None:
        """Append `items`, which weigh 1 each and have `size` bytes together. The caller has checked that they fit."""
        self.items.extend(items)
        self.count += len(items)
        self.bytes += size
        self._added(0)

    def _added(self, excess: int) -> None:
        if excess:
            if self.is_looped and not self.excess:
                self.move_items()
            self.excess += excess
        used = len(self.items) + self.excess
        if used > self.peak:
            self.peak = used
        if self.receiving:
            self.receiving[0].item_came()

    def move_items(self) -> None:
        """Move the held items to another deque, which ends a loop that pops from this one without weighing them."""
        held = self.items
        self.items = held.copy()
        held.clear()

    def pop(self) -> T:
        """Take the first item. The caller then wakes a sender."""
        item = self.items.popleft()
        if self.excess:  # reset when empty, as a held bytearray may change its size and throw the sum off
            self.excess = self.excess - weight_of(item) + 1 if self.items else 0
        return item

    def take(self) -> T:
        item = self.pop()
        if self.receiving:
            self.wake_next()
        elif self.sending:
            self.wake_sender()
        return item

    def take_many(self, most: float = math.inf, room: float = math.inf) -> list[T]:
        """Take at most `most` items that weigh `room` together, but at least one."""
        held = self.items
        if len(held) <= most and len(held) + self.excess <= room:
            items = list(held)
            held.clear()
            self.excess = 0
        elif not self.excess:
            items = [held.popleft() for _ in range(int(min(most, room)))]
        else:
            items = []
            while held and len(items) < most and (not items or weight_of(held[0]) <= room):
                room -= weight_of(held[0])
                items.append(self.pop())
        self.wake_next()
        return items

    def wake_next(self) -> None:
        """Wake the tasks that can continue, after an item was taken or a task has left its line."""
        self.wake_sender()
        if self.receiving and (self.items or self.ended):
            self.receiving[0].wake()

    def wake_sender(self) -> None:
        if self.sending and self.sending[0].is_asleep and self.fits(self.sending[0].need):
            self.sending[0].wake()

    def make_room(self, weight: int) -> bool:
        """Apply the overflow policy to an item that does not fit. Return whether to put it."""
        if self.overflow == "fail":
            heavy = f", and this item weighs {weight}, 1 for each 4 KiB" if weight > 1 else ""
            raise BufferError(f"the channel is full: it holds {self.used} of {self.capacity}{heavy}")
        if self.overflow == "drop_oldest":
            while not self.fits(weight):
                self.pop()
                self.dropped += 1
            return True
        self.dropped += 1
        return False

    def abort(self, failure: BaseException, *, after_items: bool = False) -> None:
        """Discard the held items, and raise `failure` from every later call at both ends (R12).

        With `after_items`, the held items can be received first.
        """
        if self.failure is None:
            self.failure = failure
            if not after_items:
                self.discard()
            self.wake_all()
            for call in [*(self.on_abort or {}).values()]:
                call(failure)

    def tell_abort(self, end: object, function: Callable[[BaseException], None]) -> None:
        """Call `function` with the failure when this is aborted, or now if it has been, but not after `end` is closed."""
        if self.on_abort is None:
            self.on_abort = {}
        self.on_abort[end] = function
        if self.failure is not None:
            function(self.failure)

    def discard(self) -> None:
        self.discarded += len(self.items)
        self._discarded_bytes += sum(map(size_of, self.items))
        self.items.clear()
        self.excess = 0

    def wake_all(self) -> None:
        if self.sending or self.receiving:
            for waiter in (*self.sending, *self.receiving):
                waiter.wake()

    def sender_closed(self) -> None:
        self.senders -= 1
        if self.clock is not None and not self.senders:
            self.ended_at = self.clock()
        self.wake_all()

    def receiver_closed(self) -> None:
        self.receivers -= 1
        if not self.receivers and self.items:
            self.discard()
        self.wake_all()
        if not self.receivers and self.senders and self.on_hang_up is not None:
            self.on_hang_up()

    async def wait_in(
        self,
        line: list[Waiter],
        need: int,
        attempt: Callable[[bool], bool],
        on_woken: Callable[[], None],
        in_place: Callable[[], bool] | None = None,
    ) -> None:
        """Wait in `line` until `attempt` succeeds. It runs each time this task is woken, and gets whether it is first in line.

        Tasks further back are woken too, for example when a clone is closed; they must let the first one go ahead (Rule 3).
        When an item comes, the sender's task calls `in_place`, and does not wake this one if that returns True.
        """
        waiter = Waiter(need, in_place)
        line.append(waiter)
        if line is self.sending:
            self.claimed += need
        if self.clock is not None:
            waiter.since = self.clock()
        try:
            while True:
                waiter.is_asleep = True
                await wait_task_rescheduled(waiter.abort)
                # A failure since then has cancelled us, and overtakes what woke us (R12).
                await checkpoint_if_cancelled()
                on_woken()
                if attempt(line[0] is waiter):
                    return
        finally:
            line.remove(waiter)
            if line is self.sending:
                self.claimed -= need
            if self.clock is not None:
                if line is self.sending:
                    self.sending_waited += self.clock() - waiter.since
                else:
                    self.receiving_waited += self.clock() - waiter.since
            if line:
                self.wake_next()

    def watch(self, clock: Callable[[], float]) -> None:
        """Measure from now on how long tasks wait at each end."""
        self.clock = clock
        for waiter in (*self.sending, *self.receiving):
            waiter.since = clock()

    def waits(self, now: float) -> tuple[float, float]:
        """Return the seconds that tasks have waited to send and to receive, including those that still wait."""
        return (
            self.sending_waited + sum(now - waiter.since for waiter in self.sending),
            self.receiving_waited + sum(now - waiter.since for waiter in self.receiving),
        )

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            capacity=self.capacity,
            used=self.used,
            peak=self.peak,
            items=self.count,
            bytes=self.bytes,
            dropped=self.dropped,
            discarded=self.discarded,
            open_send_channels=self.senders,
            open_receive_channels=self.receivers,
            tasks_waiting_send=len(self.sending),
            tasks_waiting_receive=len(self.receiving),
        )
