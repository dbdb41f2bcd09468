"""Handle an item whose function fails: stop, drop the item, or send it elsewhere.

Rule 1: the function that a transform calls for each item is wrapped, so that it returns its exception instead of raising
    it. A stage after the transform removes these results again, which leaves order and concurrency unchanged.
Rule 2: an item that fails produces no output, not even what its function yielded before it failed.
Rule 3: only an `Exception` that the function itself raised is handled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_exceptions, is_async
from trioflow._core.crew import Crew
from trioflow._core.engine import Stage
from trioflow._core.errors import HangUp, Kinds, is_among
from trioflow._core.fused import Operator
from trioflow._core.streams import Transform, Writable, label, wanted
from trioflow._core.typevars import T, U

PATIENCE: Final = 10  # seconds that the writable has to finish after the reader has left


def on_item_error(
    transform: Transform[T, U],
    action: Literal["stop", "drop"] | Writable[tuple[T, Exception], object],
    *,
    on: Kinds = Exception,
) -> Transform[T, U]:
    """Run `transform`, and if it fails for an item, continue with the next one.

    `transform` must be one that calls a function for each item: `map`, `starmap`, `filter`, `flat_map`, `tap`,
    `map_async`, `map_in_threads` or `map_in_processes`. Other transforms keep state between items, which a failure could
    leave inconsistent, so they are refused. An item that fails produces no output. With `flat_map`, all output of an item
    is computed before any of it is sent.

    Emits when: `transform` does.
    Waits when: `transform` does, or the writable for failed items is full.
    Ends when: `transform` does, after the writable has written everything it was sent. If the reader leaves early, the
        writable still gets ten seconds to finish. If the run fails, the writable is cancelled, as any sink is.
    On cancel: `transform` and the writable are cancelled.
    Holds: what `transform` holds, what the function returns for one item, one batch, and at most two more channels: after
        `transform`, and before the writable.

    Args:
        transform: The transform to run.
        action: `"stop"` fails, as without `on_item_error`; `"drop"` skips the item; a `Writable` receives each failed
            item and its exception, as a pair. If the writable itself fails, or stops early, the run fails.
        on: The exception types to handle; others stop the run.

    Raises:
        TypeError: `transform` is not a Transform or not of this kind; `action` or `on` has the wrong type.
        ValueError: `action` is another string.

    Example:
        >>> failed_items = []
        >>> numbers = on_item_error(map(int), for_each(lambda pair: failed_items.append(pair[0])))
        >>> run(from_iterable(["1", "two", "3"]).pipe(numbers).pipe(collect()))
        [1, 3]
        >>> failed_items
        ['two']
    """
    if not isinstance(transform, Transform):
        raise wanted("on_item_error expects a Transform", transform)
    rewrapped = transform._stages[0].rewrapped if len(transform._stages) == 1 else None
    if rewrapped is None:
        raise TypeError(
            "on_item_error expects a single transform that calls a function for each item, "
            f"such as map, filter, flat_map, tap or map_async, got {transform!r}"
        )
    kinds = check_exceptions("on_item_error", on)
    name = label("on_item_error", transform, action)
    if isinstance(action, Writable):
        removing = Stage(name, function=partial(_divert, action))
    elif action in ("stop", "drop"):
        removing = Stage(name, factory=_Dropping)
    elif isinstance(action, str):
        raise ValueError(f"on_item_error: action must be 'stop', 'drop' or a Writable, got {action!r}")
    else:
        raise wanted("on_item_error expects 'stop', 'drop' or a Writable", action)
    if action == "stop":
        return transform
    return Transform._of(rewrapped(lambda fn: _catching(fn, kinds))._replace(label=name), removing)


@dataclass(slots=True, eq=False)
class _Failed:
    """Returned for an item whose function raised; iterating it yields itself, so it also stands for a list of results."""

    item: Any
    failure: Exception

    def __iter__(self) -> Iterator[_Failed]:
        yield self


def _catching(fn: Callable[[Any], Any], kinds: tuple[type[Exception], ...]) -> Callable[[Any], Any]:
    async def catching_async(item: Any) -> Any:
        try:
            return await fn(item)
        except Exception as exc:
            if not is_among(exc, kinds):
                raise
            return _Failed(item, exc)

    def catching(item: Any) -> Any:
        try:
            return fn(item)
        except Exception as exc:
            if not is_among(exc, kinds):
                raise
            return _Failed(item, exc)

    return catching_async if is_async(fn) else catching


class _Dropping(Operator[Any, Any]):
    def feed(self, items: list[Any]) -> list[Any]:
        return [item for item in items if type(item) is not _Failed]


async def _divert(writable: Writable[Any, Any], source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
    await _Diversion(writable, source, output).run()


class _Diversion:
    """One run of the stage that sends failed items to a writable and passes the others on.

    When the reader leaves, this stage is cancelled, but the writable should still finish, so it runs in a shielded scope.
    A task outside that scope gets every cancellation, and ends the shield unless the reader's leaving is the reason.
    """

    def __init__(self, writable: Writable[Any, Any], source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        self._writable, self._source, self._output = writable, source, output
        self._writing = trio.CancelScope(shield=True)
        self._taking = trio.CancelScope()

    async def run(self) -> None:
        async with Crew() as crew:
            crew.start(self._await_cancellation)
            with self._writing:
                async with self._writable.open(capacity=self._output.statistics().capacity) as letters:
                    with self._taking:
                        await self._divert_until_left(letters)
                if letters.statistics().discarded:  # it stopped after all of them had been sent
                    raise _stopped_reading()
            if self._writing.cancelled_caught:
                raise trio.TooSlowError(
                    f"on_item_error: failed items were not written within {PATIENCE} s after the reader left"
                )
            crew.cancel()

    async def _await_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._output._reader_has_left:
                self._writing.deadline = trio.current_time() + PATIENCE
                self._taking.cancel()
            else:
                self._writing.shield = False

    async def _divert_until_left(self, letters: SendChannel[Any]) -> None:
        try:
            async for items in self._source._batches_for(self._output):
                if failed := [(item.item, item.failure) for item in items if type(item) is _Failed]:
                    await letters.send_many(failed)
                    items = [item for item in items if type(item) is not _Failed]
                if items:
                    await self._output._send_batch(items)
        except HangUp as exc:
            if letters._has_raised(exc):
                raise _stopped_reading() from exc
            if not self._output._reader_has_left:
                raise  # if it has, upstream is cancelled too, and may be the first to say so


def _stopped_reading() -> trio.BrokenResourceError:
    return trio.BrokenResourceError("on_item_error: the writable for failed items stopped reading")
