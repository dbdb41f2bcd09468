"""What a flow does about a failure: begin anew, or go on with something else.

Rule 1: only what a stage has raised is dealt with here, and only an `Exception`: a `Cancelled`, a `KeyboardInterrupt`
    and a bug of the engine pass.
Rule 2: what the failing part had sent is delivered, once and before anything else; what it had not sent is lost with it.
"""

from __future__ import annotations

import math
import random
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import trio

from trioflow._core.adapters import forward
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import (
    check_exceptions,
    check_function,
    check_limit,
    check_plain,
    check_positive,
    is_async,
    refuse_coroutine,
)
from trioflow._core.engine import Attempt, Stage, attempt
from trioflow._core.errors import Kinds, is_among
from trioflow._core.pipeline import as_readable
from trioflow._core.streams import Readable, Transform, label, wanted

T = TypeVar("T")


class Restart(NamedTuple):
    """What `retry` tells before it begins anew."""

    failure: Exception
    attempt: int  # which one has failed, from 1
    position: int  # how many items have been given by all of them
    pause: float  # seconds until the next one


def retry(
    readable: Readable[T] | Callable[[int], Readable[T]],
    *,
    attempts: float = 5,
    within: float = math.inf,
    initial: float = 0.1,
    maximum: float = 30.0,
    jitter: float = 0.25,
    on: Kinds = Exception,
    tell: Callable[[Restart], object] | None = None,
) -> Readable[T]:
    """Give what `readable` gives; when it fails, run it again after a pause, which doubles from failure to failure.

    A `Readable` begins anew: a file comes again from its first chunk. To resume give a function: it is called for each
    attempt with the number of items given so far, and all that the `Readable` it makes gives is given.
    `retry(lambda position: rows(start=position))` asks the source to go on there, and
    `retry(lambda position: rows().pipe(drop(position)))` reads past what is known.

    Emits when: `readable` does; what it sent before it failed comes first, the failure behind it.
    Waits when: its reader does, and in the pauses.
    Ends when: `readable` does.
    On cancel: what was taken and not received is lost; a pause ends at once.
    Holds: one batch.

    Args:
        readable: The source, or a function that makes one which begins behind so many items.
        attempts: How many may fail in `within` seconds, `math.inf` for any number: the last one's failure is raised.
        within: The seconds after which a failure no longer counts.
        initial: The longest first pause, in seconds, and the first after an attempt that gave an item.
        maximum: The longest pause of all.
        jitter: The part of each pause that is left to chance, from 0 to 1: who failed together shall not return together.
        on: The kinds of exception to begin anew after; where two stages or more have failed, all of theirs.
        tell: Called with a `Restart` before each pause: what failed, how often, how many items had been given.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
        trio.ClosedResourceError: never of a source that can run once only: what it failed by at first is raised.

    Example:
        >>> parts = iter([failed(OSError("busy")), from_iterable([1, 2])])
        >>> run(retry(lambda position: next(parts), initial=0.01).pipe(collect()))
        [1, 2]
    """
    if not isinstance(readable, Readable) and not callable(readable):
        raise wanted("retry wants a Readable, or a function from a position to one", readable)
    check_limit("attempts", attempts)
    check_positive("within", within)
    Backoff(initial, maximum, jitter)  # checks its arguments
    kinds = check_exceptions("retry", on)
    if tell is not None:
        check_plain("tell", tell)

    async def run(output: SendChannel[T]) -> None:
        counted, failures, backoff = _Counted(output), _Failures(attempts, within), Backoff(initial, maximum, jitter)
        while True:
            begun_at = counted.position
            source = readable if isinstance(readable, Readable) else _made(readable, begun_at)
            failure = await attempt(source._stages, output.statistics().capacity, counted.take)
            if failure is None:
                return
            if not is_among(failure, kinds):
                raise failure
            if counted.position > begun_at:
                failures.reset()
                backoff.reset()
            failures.add(failure, counted.position)
            pause = backoff.pause()
            if tell is not None:
                refuse_coroutine("tell", tell(Restart(failure, failures.count, counted.position, pause)))
            await trio.sleep(pause)

    return Readable[T]._of(Stage(label("retry", readable), function=run))


class Backoff:
    """Pauses that double up to a maximum, with jitter so that clients that failed together do not retry in lockstep."""

    def __init__(self, initial: float, maximum: float, jitter: float) -> None:
        check_positive("initial", initial)
        check_positive("maximum", maximum)
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)):
            raise TypeError(f"jitter must be a number, not {jitter!r}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {jitter}")
        self._initial, self._maximum, self._jitter = initial, maximum, jitter
        self._longest = initial  # the next pause without jitter, before `maximum` cuts it

    def reset(self) -> None:
        """Begin with the initial pause again."""
        self._longest = self._initial

    def pause(self) -> float:
        """Return the seconds to wait before the next attempt, and double the pause after that."""
        longest = min(self._longest, self._maximum)
        self._longest = longest * 2.0
        return longest * (1 - self._jitter * random.random())


class _Failures:
    """The failures of one run of `retry`: how many there were, and which of them ends it."""

    def __init__(self, attempts: float, within: float) -> None:
        self.count = 0
        self._attempts, self._within = attempts, within
        self._times: deque[float] = deque(maxlen=int(attempts) if attempts < sys.maxsize else 0)  # of the last ones
        self._first: BaseException | None = None  # since an item was sent

    def reset(self) -> None:
        """Note that the last attempt has sent an item."""
        self._first = None

    def add(self, failure: BaseException, position: int) -> None:
        """Count `failure`, which came after `position` items; raise if there is to be no further attempt."""
        self.count += 1
        if self._first is None:
            self._first = failure
        elif isinstance(failure, trio.ClosedResourceError):
            self._first.add_note(f"it could not be run again: {failure}")
            raise self._first  # that a source runs once only says nothing about what went wrong
        now = trio.current_time()
        self._times.append(now)
        if len(self._times) == self._attempts and self._times[0] >= now - self._within:
            failure.add_note(f"at attempt {self.count}, when {position} items had been given")
            raise failure


class _Counted:
    """Sends on what comes, and counts it."""

    def __init__(self, output: SendChannel[Any]) -> None:
        self._output = output
        self.position = 0

    async def take(self, receive: ReceiveChannel[Any]) -> None:
        async for items in receive.batches():
            await self._output.send_many(items)
            self.position += len(items)


def _made(function: Callable[[int], object], position: int) -> Readable[Any]:
    made = function(position)
    refuse_coroutine("retry", made)
    if not isinstance(made, Readable):
        raise wanted("the function given to retry makes a Readable", made)
    return made


def _given(given: object) -> Readable[Any]:
    try:
        return as_readable(given)
    except TypeError:
        what = "the function given to recover gives a Readable or an iterable, () for nothing more"
        raise wanted(what, given) from None


def recover(
    fn: Callable[[Exception], Readable[T] | AsyncIterable[T] | Iterable[T] | Awaitable[Readable[T] | Iterable[T]]],
    *,
    on: Kinds = Exception,
) -> Transform[T, T]:
    """Where a stage before this one fails, go on with what `fn(failure)` gives, items or another `Readable`, then end.

    All before it ends first, as after any failure; what is behind it goes on. `fn` may be a coroutine function, may raise
    something that tells more, or `raise` what it was given. What fails in what it gave is not recovered again.

    Emits when: an item comes; behind the items that were sent to it before the failure comes what `fn` gave.
    Waits when: its reader does.
    Ends when: the source ends, or what `fn` gave does.
    On cancel: nothing of its own is lost.
    Holds: one batch, and what `fn` gave.

    Args:
        fn: Gives an iterable, an async iterable or a `Readable`; `()` for nothing more. A `str` is one item.
        on: The kinds of exception to recover from; where two stages or more have failed, all of theirs.

    Raises:
        TypeError: `fn` cannot be called or gives none of these, or `on` is not a kind of `Exception` or several.

    Example:
        >>> source = from_iterable([2, 1, 0, 5]).pipe(map(lambda n: 6 // n))
        >>> run(source.pipe(recover(lambda failure: [str(failure)])).pipe(collect()))[-1]
        'integer division or modulo by zero'
    """
    call: Callable[[Exception], Any] = check_function("recover", fn)
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
        last = await attempt(_given(given)._stages, output.statistics().capacity, partial(forward, output=output))
        if last is not None:
            raise last

    return Transform[T, T]._of(Stage(label("recover", fn), function=run, encloses=True))
