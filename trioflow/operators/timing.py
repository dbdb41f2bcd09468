"""Pace and patience: when items go on, and how long nothing may come. All of it on Trio's clock.

Rule 1: a moment is computed from the one before it, never slept towards in steps: nothing drifts, and under a mock
    clock all is exact.
Rule 2: a receive that a time limit cuts off has taken nothing, so no item is lost between two moments.
Rule 3: time in which the reader is slow is no time of the source's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, overload

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY, check_capacity
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_plain, check_positive, is_async, refuse_coroutine
from trioflow._core.crew import open_crew
from trioflow._core.engine import Stage
from trioflow._core.makers import differing, dropping, passing_on, task
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, Transform, label
from trioflow._core.typevars import T, U


def ticks(interval: float) -> Readable[float]:
    """Give the time, now and every `interval` seconds from now on, on Trio's clock; the times do not drift.

    Emits when: a tick is due; the item is the time at which it was.
    Waits when: its reader does: of the ticks that were due meanwhile only the last is given.
    Ends when: never; pipe it through `take`, or zip it with what ends.
    On cancel: nothing is lost.
    Holds: one item. The channels after it have capacity 1, or the ticks would wait there.

    Raises:
        TypeError, ValueError: `interval` is not a number above 0.

    Example:
        >>> times = run(ticks(0.01).pipe(take(3)).pipe(collect()))
        >>> [round(time - times[0], 2) for time in times]
        [0.0, 0.01, 0.02]
    """
    check_positive("interval", interval)

    async def run(output: SendChannel[float]) -> None:
        grid = _Grid(interval)
        due = grid.start
        while True:
            await output.send(due)
            await output._wait_empty()
            due = grid.next()
            await trio.sleep_until(due)

    return Readable._of(Stage(label("ticks", interval), function=run, drops=True))


class _Grid:
    """Moments `interval` seconds apart, from now on."""

    def __init__(self, interval: float) -> None:
        self.start = trio.current_time()
        self._interval = interval
        self._count = 0

    def next(self) -> float:
        """Give the next moment; of those that have passed already only the last."""
        passed = int((trio.current_time() - self.start) / self._interval)
        self._count = max(self._count + 1, passed)
        return self.start + self._count * self._interval


def throttle(
    rate: float, *, per: float = 1.0, burst: float = 1, cost: Callable[[T], float] | None = None
) -> Transform[T, T]:
    """Let at most `rate` items pass `per` seconds, evenly, or up to `burst` at once after a quiet time.

    A token bucket: it holds `burst` tokens at most and at first, `rate` flow in `per` seconds, an item takes one, or
    `cost(item)`. An item that costs more than the bucket holds waits until the rest has flowed in as well.

    Emits when: its tokens are there.
    Waits when: they are not, or its reader does.
    Ends when: the source ends.
    On cancel: the item that waits is lost.
    Holds: one item.

    Args:
        rate: How many items, or what they cost, in `per` seconds.
        per: The seconds.
        burst: How much may pass at once.
        cost: Gives what an item costs: `throttle(64_000, burst=16_000, cost=len)` is 64 kB a second.

    Raises:
        TypeError, ValueError: a number is none or not above 0, `cost` is no plain function or gives less than 0.

    Example:
        >>> run(ticks(0.001).pipe(throttle(100, burst=2)).pipe(take(3)).pipe(count()))
        3
    """
    for name, value in (("rate", rate), ("per", per), ("burst", burst)):
        check_positive(name, value)
    if cost is not None:
        check_plain("cost", cost)
    if math.inf in (per, 1 / rate):
        raise ValueError(f"rate must be above 0 and per finite, not {rate} per {per}")
    price: Callable[[Any], float] | None = cost
    interval = per / rate

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        full_at = trio.current_time()  # when the bucket would be full again
        async for item in source:
            tokens = 1.0 if price is None else _checked_cost(price(item))
            now = trio.current_time()
            passes_at = max(full_at, now) + (tokens - burst) * interval
            if passes_at > now:
                await trio.sleep_until(passes_at)
            full_at = max(full_at, now) + tokens * interval
            await output.send(item)

    options = differing(per=(per, 1.0), burst=(burst, 1), cost=(cost, None))
    throttling = task(run, "throttle", rate, **options)
    return throttling if price is not None else passing_on(throttling)


def _checked_cost(tokens: Any) -> float:
    refuse_coroutine("cost", tokens)
    if not isinstance(tokens, (int, float)):
        raise TypeError(f"cost must give a number, not {tokens!r}")
    if not tokens >= 0:
        raise ValueError(f"cost must give 0 or more, not {tokens}")
    return tokens


def debounce(seconds: float) -> Transform[T, T]:
    """Give an item when no other has come for `seconds`: of items in quick succession the last.

    Emits when: it has been quiet for `seconds` behind an item, or the source ends.
    Waits when: its reader does; what comes meanwhile counts as having come then.
    Ends when: the source ends, after the item in hand.
    On cancel: the item in hand is lost.
    Holds: one item, and for a moment one batch. The channels after it have capacity 1, so that items do not age there.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0.

    Example:
        >>> run(from_iterable("typed").pipe(flat_map(list)).pipe(debounce(0.01)).pipe(collect()))
        ['d']
    """
    check_positive("seconds", seconds)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async for items in source.batches():
            while newer := await _within(seconds, source.receive_many):
                items = newer
            await output.send(items[-1])

    return dropping(task(run, "debounce", seconds))


def sample(seconds: float) -> Transform[T, T]:
    """Give, every `seconds`, the last item that has come since the time before; where none has, give none.

    Emits when: it is time and something has come, or the source ends.
    Waits when: its reader does; times that pass meanwhile are left out.
    Ends when: the source ends, after the item in hand.
    On cancel: the item in hand is lost.
    Holds: one item, and for a moment one batch. The channels after it have capacity 1, so that items do not age there.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0.

    Example:
        >>> run(from_iterable(range(100)).pipe(sample(0.01)).pipe(collect()))[-1]
        99
    """
    check_positive("seconds", seconds)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        grid = _Grid(seconds)
        has_ended = False
        while not has_ended:
            latest: list[Any] = []
            with trio.CancelScope(deadline=grid.next()):
                while not has_ended:
                    try:
                        latest = (await source.receive_many())[-1:]
                    except trio.EndOfChannel:
                        has_ended = True
            if latest:
                await output.send_many(latest)

    return dropping(task(run, "sample", seconds))


def delay(seconds: float, *, capacity: float = DEFAULT_CAPACITY) -> Transform[T, T]:
    """Give each item `seconds` after it came, in the same rhythm.

    Emits when: an item has been here for `seconds`.
    Waits when: `capacity` is held, or its reader does.
    Ends when: the source has ended and the last item has been given.
    On cancel: what is held is lost.
    Holds: items that weigh `capacity` together, one that is due, and one for which there is no room.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0, or `capacity` neither an int above 0 nor `math.inf`.

    Example:
        >>> run(from_iterable("abc").pipe(delay(0.01)).pipe(collect()))
        ['abc']
    """
    check_positive("seconds", seconds)
    check_capacity(capacity)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        send, held = open_channel[Any](capacity)
        due: deque[float] = deque()  # of what is held, and of what waits to be

        async def take() -> None:
            with send:
                async for item in source:
                    due.append(trio.current_time() + seconds)
                    await send.send(item)

        async def give() -> None:
            with held:
                async for item in held:
                    if (at := due.popleft()) > trio.current_time():
                        await trio.sleep_until(at)
                    await output.send(item)

        async with open_crew() as crew:
            crew.start(take)
            await give()
            crew.cancel()

    return passing_on(task(run, "delay", seconds, **differing(capacity=(capacity, DEFAULT_CAPACITY))))


def timeout(seconds: float) -> Transform[T, T]:
    """Give each item as it comes, and fail if none comes for `seconds`, at first or behind another.

    For a limit around the whole run use `trio.fail_after`.

    Emits when: an item comes.
    Waits when: its reader does; that time does not count.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch.

    Raises:
        trio.TooSlowError: when it runs: nothing has come for `seconds`; all before it is cancelled.
        TypeError, ValueError: `seconds` is not a number above 0.

    Example:
        >>> run(ticks(60).pipe(timeout(0.01)).pipe(drain()))
        Traceback (most recent call last):
        trio.TooSlowError: nothing has come for 0.01 s
        in stage 2 of 3: timeout(0.01)
    """
    check_positive("seconds", seconds)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        while (items := await _within(seconds, partial(source._receive_for, output))) is not None:
            if not items:
                raise trio.TooSlowError(f"nothing has come for {seconds:g} s")
            await output._send_batch(items)

    return passing_on(task(run, "timeout", seconds))


@overload
def keep_alive(seconds: float, item: Callable[[], U]) -> Transform[T, T | U]: ...
@overload
def keep_alive(seconds: float, item: U) -> Transform[T, T | U]: ...
def keep_alive(seconds: float, item: U | Callable[[], U]) -> Transform[T, T | U]:
    """Give each item as it comes, and `item` whenever nothing has come for `seconds`.

    Emits when: an item comes; or none has for `seconds`, and the reader has taken all that was given before.
    Waits when: its reader does; that time does not count.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch. The channels after it have capacity 1: an `item` that waits there would tell a reader nothing.

    Args:
        seconds: How long it may be quiet.
        item: What to give then, or a plain function that makes it.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0, or `item` is a coroutine function.

    Example:
        >>> run(ticks(60).pipe(keep_alive(0.01, "still here")).pipe(drop(1)).pipe(first()))
        'still here'
    """
    check_positive("seconds", seconds)
    if is_async(item):
        raise TypeError(f"keep_alive wants an item or a plain function that makes it, not {item!r}")

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        while (items := await _within(seconds, source.receive_many)) is not None:
            if not items:
                if not output._is_empty:
                    continue  # the reader has something to take
                items = [item() if callable(item) else item]
                refuse_coroutine("keep_alive", items[0])
            await output.send_many(items)

    return dropping(task(run, "keep_alive", seconds, item))


async def _within(seconds: float, receive: Callable[[], Awaitable[list[Any]]]) -> list[Any] | None:
    """Return what `receive` gives: an empty list if nothing comes for `seconds`, None at the end."""
    with trio.move_on_after(seconds):
        try:
            return await receive()
        except trio.EndOfChannel:
            return None
    return []
