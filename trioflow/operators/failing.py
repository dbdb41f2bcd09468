"""Operators that handle a failure: run the source again, resume it, or continue with something else.

Rule 1: only an `Exception` that a stage has raised is handled here. `Cancelled`, `KeyboardInterrupt` and bugs in the
    engine propagate.
Rule 2: what the failing part had sent is delivered once, before anything else. What it had not sent is lost.
Rule 3: once an item has been delivered, no source starts again from the beginning, unless the caller passed
    `repeats=True`. Otherwise half of a file followed by the whole of it would pass for one file.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import trio

from trioflow._core.backoff import Backoff
from trioflow._core.channel import SendChannel
from trioflow._core.checks import (
    check_exceptions,
    check_flags,
    check_function,
    check_limit,
    check_plain,
    check_positive,
    is_async,
    refuse_coroutine,
)
from trioflow._core.engine import Attempt, Stage, attempt, release
from trioflow._core.errors import Kinds, is_among, note
from trioflow._core.makers import source as source_of
from trioflow._core.moving import forward
from trioflow._core.pipeline import as_readable
from trioflow._core.streams import Readable, Transform, label, wanted
from trioflow._core.typevars import T, U


class Delivered(NamedTuple):
    """How much a `retry` has passed on so far, in all its attempts together.

    `bytes` is the size of those items that are bytes-like. It counts what leaves the `retry`, so after stages inside it
    have unpacked or split the data.
    """

    items: int
    bytes: int


class Restart(NamedTuple):
    """What `retry` passes to `tell` before each further attempt.

    `failure` is what the last attempt failed with, and `attempt` its number, from 1. `delivered` is how much all attempts
    together have passed on, and `pause` the seconds until the next attempt.
    """

    failure: Exception
    attempt: int
    delivered: Delivered
    pause: float


def retry(
    readable: Readable[T] | Callable[[Delivered], Readable[T]],
    *,
    repeats: bool = False,
    attempts: float = 5,
    within: float = math.inf,
    initial: float = 0.1,
    maximum: float = 30.0,
    jitter: float = 0.25,
    on: Kinds = Exception,
    tell: Callable[[Restart], object] | None = None,
) -> Readable[T]:
    """Run `readable`; if it fails, run it again after a pause, which doubles after each failure.

    Every run of a `Readable` starts from the beginning, so by default it is run again only if it has passed nothing on. A
    failure after the first item is raised. Otherwise a file that broke off in the middle would be followed by the same
    file from its beginning.

    To resume after the first item, pass a function. It is called for each attempt with what has been delivered so far,
    and returns a `Readable` of the rest. If the source can start anywhere, such as an HTTP request with a Range header,
    use `retry(lambda delivered: download(start=delivered.bytes))`. If it cannot, read it again and skip what you have:
    `retry(lambda delivered: rows().pipe(drop(delivered.items)))`.

    If repeated items do no harm, as with a sensor or a feed, pass `repeats=True`. Put `lines` and the like inside the
    `retry`, as in `retry(feed.pipe(lines()), repeats=True)`: after it, they would join half a line of one attempt with
    the first line of the next.

    A connection can run only once, so make one for each attempt:
    `retry(lambda delivered: connect_tcp(host, port).readable.pipe(lines()))`.

    Emits when: `readable` does; what it sent before it failed is delivered before the failure is handled.
    Waits when: downstream is not ready, and between attempts.
    Ends when: `readable` does.
    On cancel: items in transit are lost; a pause ends at once.
    Holds: what the channels of the current attempt hold, and the times of the failures in the last `within` seconds unless
        `attempts` or `within` is inf.

    Args:
        readable: The source, or a function that returns one that starts after what was delivered.
        repeats: Whether a `Readable` may start again after it has passed items on, which may then arrive twice.
        attempts: How many attempts may fail within `within` seconds before the last failure is raised; `math.inf` for no
            limit.
        within: After how many seconds a failure no longer counts.
        initial: The longest first pause, in seconds, also after an attempt that passed on an item.
        maximum: The longest pause, in seconds.
        jitter: The part of each pause that is random, from 0 to 1, so that clients do not retry in lockstep.
        on: The exception types to retry after. If two or more stages failed, all their exceptions must match.
        tell: Called with a `Restart` before each pause: what failed, how often, and how much had been delivered.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        Exception: the failure of the last attempt. If the source can run only once, its first failure is raised and not
            the `trio.ClosedResourceError` of the second attempt.

    Example:
        >>> parts = iter([failed(OSError("busy")), from_iterable([1, 2])])
        >>> run(retry(lambda delivered: next(parts), initial=0.01).pipe(collect()))
        [1, 2]
    """
    if not isinstance(readable, Readable) and not callable(readable):
        raise wanted("retry expects a Readable, or a function that returns one", readable)
    check_flags(repeats=repeats)
    if repeats and not isinstance(readable, Readable):
        raise TypeError("retry: repeats is for a Readable; a function decides itself where each attempt starts")
    check_limit("attempts", attempts)
    check_positive("within", within)
    Backoff(initial, maximum, jitter)  # checks its arguments
    kinds = check_exceptions("retry", on)
    if tell is not None:
        check_plain("tell", tell)

    async def run(output: SendChannel[T]) -> None:
        failures, backoff = _Failures(attempts, within), Backoff(initial, maximum, jitter)
        while True:
            begun_at = _delivered_to(output)
            source = readable if isinstance(readable, Readable) else _made(readable, begun_at)
            failure = await attempt(source._stages, output._run_capacity, partial(forward, output=output))
            if failure is None:
                return
            if not is_among(failure, kinds):
                raise failure
            delivered = _delivered_to(output)
            if isinstance(readable, Readable) and delivered.items and not repeats:
                note(
                    failure,
                    f"retry: not run again, because {_shown(delivered)} had been passed on; to resume after them, use "
                    "retry(lambda delivered: ...); if repeated items do no harm, pass repeats=True",
                )
                raise failure
            if delivered.items > begun_at.items:
                failures.reset()
                backoff.reset()
            failures.add(failure, delivered)
            pause = backoff.pause()
            if tell is not None:
                refuse_coroutine("tell", tell(Restart(failure, failures.count, delivered, pause)))
            await trio.sleep(pause)

    return source_of(run, "retry", readable)


def _delivered_to(output: SendChannel[Any]) -> Delivered:
    now = output.statistics()
    return Delivered(now.items, now.bytes)


def _shown(delivered: Delivered) -> str:
    items = "1 item" if delivered.items == 1 else f"{delivered.items} items"
    return f"{items} ({delivered.bytes} bytes)"


class _Failures:
    """Counts the failures of one run of `retry`, and decides which of them ends it."""

    def __init__(self, attempts: float, within: float) -> None:
        self.count = 0
        self._attempts, self._within = attempts, within
        self._times: deque[float] = deque()  # of the last failures, if only those within some time count
        self._first: BaseException | None = None  # the first failure since an item was sent

    def reset(self) -> None:
        """Note that the last attempt has sent an item."""
        self._first = None

    def add(self, failure: BaseException, delivered: Delivered) -> None:
        """Count `failure`; raise if there must be no further attempt."""
        self.count += 1
        if self._first is None:
            self._first = failure
        elif isinstance(failure, trio.ClosedResourceError):
            note(
                self._first,
                f"retry: the source could not be run again: {failure}; "
                "pass a function that makes a new one for each attempt: retry(lambda delivered: ...)",
            )
            raise self._first  # more useful than the error that says that the source can run only once
        if self._counting() >= self._attempts:
            note(failure, f"retry: gave up after attempt {self.count}; {delivered.items} items had been passed on")
            raise failure

    def _counting(self) -> int:
        """Return how many failures count, including the last."""
        if math.inf in (self._attempts, self._within):
            return self.count
        now = trio.current_time()
        self._times.append(now)
        while self._times[0] < now - self._within:
            self._times.popleft()
        return len(self._times)


def _made(function: Callable[[Delivered], object], delivered: Delivered) -> Readable[Any]:
    made = function(delivered)
    refuse_coroutine("retry", made)
    if not isinstance(made, Readable):
        raise wanted("the function given to retry must return a Readable", made)
    return made


def _given(given: object) -> Readable[Any]:
    try:
        return as_readable(given)
    except TypeError:
        what = "the function given to recover must return a Readable or an iterable, () for nothing more"
        raise wanted(what, given) from None


def recover(
    fn: Callable[[Exception], Readable[U] | AsyncIterable[U] | Iterable[U] | Awaitable[Readable[U] | Iterable[U]]],
    *,
    repeats: bool = False,
    on: Kinds = Exception,
) -> Transform[T, T | U]:
    """If an upstream stage fails, continue with what `fn(failure)` returns, items or another `Readable`, then end.

    By then all upstream stages have ended, as after any failure. The stages downstream continue and see a normal end. So
    `recover(lambda failure: ())` accepts what arrived before the failure: a file is written as if it were complete. Items
    that were in one batch with an item that failed are lost with it; `on_item_error` loses only that item.

    Items are appended to what has been passed on. A `Readable` starts from its own beginning, so by default it may take
    over only if nothing has been passed on. Otherwise the failure is raised, so that half of one copy of a file is never
    followed by the whole of another. To continue in the middle, use `retry`, which tells its function how much was
    delivered.

    `fn` may be a coroutine function, and may raise: a more specific exception, or the one that it was given. A failure of
    the `Readable` or iterable that it returns is not recovered from again.

    Emits when: an item arrives. Items that were sent before the failure come before those that `fn` returned.
    Waits when: downstream is not ready.
    Ends when: the source ends, or what `fn` returned does.
    On cancel: items in transit are lost.
    Holds: what `fn` returned; of a `Readable`, what its channels hold.

    Args:
        fn: Returns an iterable, an async iterable or a `Readable`; `()` for nothing more. A `str` is one item.
        repeats: Whether a `Readable` may take over after items have been passed on, which may then arrive twice.
        on: The exception types to recover from. If two or more stages failed, all their exceptions must match.

    Raises:
        TypeError: `fn` is not callable or returns something else, or `on` is not an `Exception` type or a tuple of them.

    Example:
        >>> source = concat(from_iterable(["a", "b"]), failed(OSError("busy")))
        >>> run(source.pipe(recover(lambda failure: [str(failure)])).pipe(collect()))
        ['a', 'b', 'busy']
    """
    call: Callable[[Exception], Any] = check_function("recover", fn)
    check_flags(repeats=repeats)
    kinds = check_exceptions("recover", on)
    waits = is_async(call)

    async def run(upstream: Attempt, output: SendChannel[Any]) -> None:
        failure = await upstream(partial(forward, output=output))
        if failure is None:
            return
        try:
            raise failure
        except Exception as exc:
            if not is_among(exc, kinds):
                raise
            await trio.lowlevel.checkpoint_if_cancelled()
            given = await call(exc) if waits else call(exc)
            refuse_coroutine("recover", given)
            delivered = _delivered_to(output)
            if isinstance(given, Readable) and delivered.items and not repeats:
                await release(given._stages, exc)
                note(
                    exc,
                    f"recover: the other Readable did not take over, because {_shown(delivered)} had been passed on; to "
                    "continue after them, use retry(lambda delivered: ...); if repeated items do no harm, pass repeats=True",
                )
                raise
        last = await attempt(_given(given)._stages, output._run_capacity, partial(forward, output=output))
        if last is not None:
            raise last

    return Transform._of(Stage(label("recover", fn), function=run, encloses=True))
