"""Operators that pace items or limit how long a source may be silent, on Trio's clock.

Rule 1: each time is computed, not reached by adding up sleeps, so it does not drift and is exact with a mock clock.
Rule 2: a receive that times out has taken nothing, so no item is lost.
Rule 3: time that is spent waiting for a slow reader does not count against the source.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, overload

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_limit, check_plain, check_positive, is_async, refuse_coroutine
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage
from trioflow._core.makers import differing, marked, task
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, Transform, label
from trioflow._core.typevars import T, U


def ticks(interval: float) -> Readable[float]:
    """Yield the time on Trio's clock, now and then every `interval` seconds, without drift.

    Emits when: a tick is due; the item is the time at which it was due.
    Waits when: downstream is not ready. Of the ticks that were due meanwhile only the last is sent.
    Ends when: never; pipe it through `take`, or zip it with something that ends.
    On cancel: nothing is lost.
    Holds: one item. The channels after it have capacity 1, so that ticks do not queue up there.

    Raises:
        TypeError, ValueError: `interval` is not a number above 0.

    Example:
        >>> times = run(ticks(0.01).pipe(take(3)).pipe(collect()))
        >>> times[2] - times[0] > 0.019
        True
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
    """Times that are `interval` seconds apart, starting now."""

    def __init__(self, interval: float) -> None:
        self.start = trio.current_time()
        self._interval = interval
        self._count = 0

    def next(self) -> float:
        """Return the next time; if several have passed already, the last of them."""
        passed = int((trio.current_time() - self.start) / self._interval)
        self._count = max(self._count + 1, passed)
        return self.start + self._count * self._interval


def throttle(
    rate: float, *, per: float = 1.0, burst: float = 1, cost: Callable[[T], float] | None = None
) -> Transform[T, T]:
    """Pass on at most `rate` items every `per` seconds, evenly spaced, or up to `burst` at once after a quiet time.

    This is a token bucket. It starts full, with `burst` tokens, and is refilled with `rate` tokens every `per` seconds. An
    item takes one token, or `cost(item)` tokens. An item that costs more than the bucket holds waits for the difference.

    Emits when: there are enough tokens for the item.
    Waits when: there are not, or downstream is not ready.
    Ends when: the source ends.
    On cancel: the item that waits is lost.
    Holds: the item that waits, and one batch of those that need not.

    Args:
        rate: How many items may pass in `per` seconds, or how much they may cost together.
        per: The length of that time, in seconds.
        burst: How many items, or how much cost, may pass at once.
        cost: A plain function that returns the cost of an item: `throttle(64_000, burst=16_000, cost=len)` passes on
            64 kB a second.

    Raises:
        TypeError, ValueError: an argument is not a number above 0, or `cost` is not a plain function; while running,
            `cost` returns less than 0.

    Example:
        >>> run(ticks(0.001).pipe(throttle(100, burst=2)).pipe(take(3)).pipe(count()))
        3
    """
    for name, value in (("rate", rate), ("per", per), ("burst", burst)):
        check_positive(name, value)
    if cost is not None:
        check_plain("cost", cost)
    if math.inf in (per, 1 / rate):
        raise ValueError(f"throttle: per must be finite and rate not too small, got rate={rate}, per={per}")
    price: Callable[[Any], float] | None = cost
    interval = per / rate

    async def run(source: ReceiveChannel[Any]) -> AsyncIterator[Any]:
        full_at = trio.current_time()  # when the bucket would be full again
        async for item in source:
            tokens = 1.0 if price is None else _checked_cost(price(item))
            now = trio.current_time()
            passes_at = max(full_at, now) + (tokens - burst) * interval
            if passes_at > now:
                await trio.sleep_until(passes_at)
            full_at = max(full_at, now) + tokens * interval
            yield item

    options = differing(per=(per, 1.0), burst=(burst, 1), cost=(cost, None))
    throttling = task(run, "throttle", rate, **options)
    return throttling if price is not None else marked(throttling, passes_on=True)


def _checked_cost(tokens: Any) -> float:
    refuse_coroutine("cost", tokens)
    if not isinstance(tokens, (int, float)):
        raise TypeError(f"throttle: cost must return a number, got {tokens!r}")
    if not tokens >= 0:
        raise ValueError(f"throttle: cost must return 0 or more, got {tokens}")
    return tokens


def debounce(seconds: float) -> Transform[T, T]:
    """Yield an item once no other has followed it for `seconds`: the last of items in quick succession.

    Emits when: nothing has arrived for `seconds` after an item, or the source ends.
    Waits when: downstream is not ready. Items that arrive meanwhile count as arriving when it is ready again.
    Ends when: the source ends, after the item in hand.
    On cancel: the item in hand is lost.
    Holds: one item, and briefly one batch. The channels after it have capacity 1, so that items do not grow old there.

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

    return marked(task(run, "debounce", seconds), drops=True)


def sample(seconds: float) -> Transform[T, T]:
    """Yield the latest item every `seconds`, or nothing if no new item has arrived.

    Emits when: `seconds` have passed and an item has arrived in them, or the source ends.
    Waits when: downstream is not ready; intervals that pass meanwhile are skipped.
    Ends when: the source ends, after the item in hand.
    On cancel: the item in hand is lost.
    Holds: one item, and briefly one batch. The channels after it have capacity 1, so that items do not grow old there.

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

    return marked(task(run, "sample", seconds), drops=True)


def delay(seconds: float, *, capacity: float = DEFAULT_CAPACITY) -> Transform[T, T]:
    """Delay each item by `seconds`, keeping the intervals between items.

    Emits when: an item has been held for `seconds`.
    Waits when: it holds `capacity`, or downstream is not ready.
    Ends when: the source has ended and the last item has been sent.
    On cancel: what it holds is lost.
    Holds: items that weigh `capacity` together, one that is due, and one for which there is no room.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0, or `capacity` neither an int above 0 nor `math.inf`.

    Example:
        >>> run(from_iterable("abc").pipe(delay(0.01)).pipe(collect()))
        ['abc']
    """
    check_positive("seconds", seconds)
    check_limit("capacity", capacity)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        send, held = open_channel[Any](capacity)
        due: deque[float] = deque()  # for each item held, and the one that waits for room

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

        async with Crew() as crew:
            crew.start(take)
            await give()
            crew.cancel()

    return marked(task(run, "delay", seconds, **differing(capacity=(capacity, DEFAULT_CAPACITY))), passes_on=True)


def timeout(seconds: float) -> Transform[T, T]:
    """Pass items on as they arrive, and fail if none arrives for `seconds`, at the start or after another.

    To limit the time of the whole run, use `trio.fail_after`.

    Emits when: an item arrives.
    Waits when: downstream is not ready; that time does not count.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch.

    Raises:
        trio.TooSlowError: while running, nothing has arrived for `seconds`; everything upstream is cancelled.
        TypeError, ValueError: `seconds` is not a number above 0.

    Example:
        >>> run(ticks(60).pipe(timeout(0.01)).pipe(drain()))
        Traceback (most recent call last):
        trio.TooSlowError: nothing has arrived for 0.01 s
        in stage 2 of 3: timeout(0.01)
    """
    check_positive("seconds", seconds)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        while (items := await _within(seconds, partial(source._receive_for, output))) is not None:
            if not items:
                raise trio.TooSlowError(f"nothing has arrived for {seconds:g} s")
            await output._send_batch(items)

    return marked(task(run, "timeout", seconds), passes_on=True)


@overload
def keep_alive(seconds: float, item: Callable[[], U]) -> Transform[T, T | U]: ...
@overload
def keep_alive(seconds: float, item: U) -> Transform[T, T | U]: ...
def keep_alive(seconds: float, item: U | Callable[[], U]) -> Transform[T, T | U]:
    """Pass items on as they arrive, and yield `item` whenever nothing has arrived for `seconds`.

    Items leave it one at a time, which limits it to some tens of thousands a second. If more may come, pipe through `batch` first.

    Emits when: an item arrives; or none has for `seconds`, and the reader has taken everything sent so far.
    Waits when: downstream is not ready; that time does not count.
    Ends when: the source ends.
    On cancel: only the batch in hand is lost.
    Holds: one batch. The channels after it have capacity 1, because an `item` that waited there would say nothing new.

    Args:
        seconds: How long the source may be silent.
        item: What to send then, or a plain function that returns it.

    Raises:
        TypeError, ValueError: `seconds` is not a number above 0, or `item` is a coroutine function.

    Example:
        >>> run(ticks(60).pipe(drop(1)).pipe(keep_alive(0.01, "still here")).pipe(first()))
        'still here'
    """
    check_positive("seconds", seconds)
    if is_async(item):
        raise TypeError(
            f"keep_alive: item must be an item or a plain function that returns one, got the coroutine function {item!r}"
        )

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        while (items := await _within(seconds, source.receive_many)) is not None:
            if not items:
                if not output._is_empty:
                    continue  # the reader still has something to take
                items = [item() if callable(item) else item]
                refuse_coroutine("keep_alive", items[0])
            await output.send_many(items)

    return marked(task(run, "keep_alive", seconds, item), drops=True)


async def _within(seconds: float, receive: Callable[[], Awaitable[list[Any]]]) -> list[Any] | None:
    """Return what `receive` returns, an empty list if nothing arrives for `seconds`, or None at the end."""
    with trio.move_on_after(seconds):
        try:
            return await receive()
        except trio.EndOfChannel:
            return None
    return []
