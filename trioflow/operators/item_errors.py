"""What to do about one item that cannot be treated: stop, drop it, or put it aside.

Rule 1: the function that a transform calls for each item is wrapped: it gives its failure instead of raising it, and a
    stage behind takes that out again, in its turn. So order and concurrency stay as they are.
Rule 2: an item that has failed gives nothing, not even what its function gave before it failed.
Rule 3: only an `Exception` that the function itself has raised is dealt with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_exceptions, is_async
from trioflow._core.crew import open_crew
from trioflow._core.engine import Stage
from trioflow._core.errors import HangUp, Kinds, is_among
from trioflow._core.fused import Operator
from trioflow._core.streams import Transform, Writable, label, wanted
from trioflow._core.typevars import T, U

PATIENCE: Final = 10  # seconds for the writable to finish in, when the reader has left


def on_item_error(
    transform: Transform[T, U],
    action: Literal["stop", "drop"] | Writable[tuple[T, Exception], object],
    *,
    on: Kinds = Exception,
) -> Transform[T, U]:
    """Run `transform`, and where it fails for an item, go on with the next one.

    For a transform that calls a function for each item: `map`, `filter`, `flat_map`, `tap`, `map_async`,
    `map_in_threads` and `map_in_processes`. Others hold something from item to item, which a failure would leave half
    done: they are refused. An item that has failed gives nothing; of what `flat_map` makes of an item all is made before
    any is given.

    Emits when: `transform` does.
    Waits when: `transform` does, or the writable for failed items.
    Ends when: `transform` does. The writable has then written all it was sent, also where the reader has left before
        the end; it has ten seconds for that. After a failure of the flow it is cut off, as a sink is (R13).
    On cancel: as `transform`; the writable is cut off.
    Holds: what `transform` holds, what the function gives for one item, and one batch.

    Args:
        transform: What to run.
        action: `"stop"`: fail, as without this. `"drop"`: leave the item out. Or a `Writable`, which gets each item that
            has failed and the exception, as a pair; it runs beside, and that it fails or has enough is a failure.
        on: The kinds of exception to deal with; others stop the flow.

    Raises:
        TypeError: `transform` is no transform, or not of this kind; `action` or `on` is not one of these.
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
        raise wanted("on_item_error wants a Transform", transform)
    rewrapped = transform._stages[0].rewrapped if len(transform._stages) == 1 else None
    if rewrapped is None:
        raise TypeError(
            "on_item_error wants a transform that calls a function for each item, by itself, "
            f"such as map, filter, flat_map, tap or map_async, not {transform!r}"
        )
    kinds = check_exceptions("on_item_error", on)
    name = label("on_item_error", transform, action)
    if isinstance(action, Writable):
        behind = Stage(name, function=partial(_divert, action))
    elif action in ("stop", "drop"):
        behind = Stage(name, factory=_Dropping)
    elif isinstance(action, str):
        raise ValueError(f"action must be 'stop', 'drop' or a Writable, not {action!r}")
    else:
        raise wanted("on_item_error wants 'stop', 'drop' or a Writable", action)
    if action == "stop":
        return transform
    return Transform._of(rewrapped(lambda fn: _catching(fn, kinds))._replace(label=name), behind)


class _Failed:
    """What a function gives for an item instead of raising; where a function gives many, this is the only one."""

    __slots__ = ("failure", "item")

    def __init__(self, item: Any, failure: Exception) -> None:
        self.item = item
        self.failure = failure

    def __iter__(self) -> Iterator[_Failed]:
        yield self


def _catching(fn: Callable[[Any], Any], kinds: tuple[type[Exception], ...]) -> Callable[[Any], Any]:
    if not is_async(fn):
        return _Catching(fn, kinds)

    async def catching(item: Any) -> Any:
        try:
            return await fn(item)
        except Exception as exc:
            if not is_among(exc, kinds):
                raise
            return _Failed(item, exc)

    return catching


class _Catching:
    """A plain function that gives its failure; an object, so that it can be sent to another process."""

    def __init__(self, fn: Callable[[Any], Any], kinds: tuple[type[Exception], ...]) -> None:
        self._fn = fn
        self._kinds = kinds

    def __call__(self, item: Any) -> Any:
        try:
            return self._fn(item)
        except Exception as exc:
            if not is_among(exc, self._kinds):
                raise
            return _Failed(item, exc)


class _Dropping(Operator[Any, Any]):
    def feed(self, items: list[Any]) -> list[Any]:
        return [item for item in items if type(item) is not _Failed]


async def _divert(writable: Writable[Any, Any], source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
    await _Diversion(writable, source, output).run()


class _Diversion:
    """One run of the stage that sends failed items to a writable, and hands the others on.

    A reader that leaves cancels the task of this stage, which must not cut off the writable: it runs in a shield. A task
    outside the shield gets each cancellation, and decides by its reason what becomes of the writable.
    """

    def __init__(self, writable: Writable[Any, Any], source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        self._writable, self._source, self._output = writable, source, output
        self._writing = trio.CancelScope(shield=True)
        self._taking = trio.CancelScope()

    async def run(self) -> None:
        async with open_crew() as crew:
            crew.start(self._await_cancellation)
            with self._writing:
                async with self._writable.open(capacity=self._output.statistics().capacity) as letters:
                    with self._taking:
                        await self._divert_until_left(letters)
            if self._writing.cancelled_caught:
                raise trio.TooSlowError(f"failed items were not written within {PATIENCE} s of the reader's leaving")
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
            await self._divert(letters)
        except HangUp as exc:
            if letters._has_raised(exc):
                raise trio.BrokenResourceError("the writable for failed items takes no more") from exc
            if not self._output._has_raised(exc):
                raise

    async def _divert(self, letters: SendChannel[Any]) -> None:
        async for items in self._source._batches_for(self._output):
            if failed := [(item.item, item.failure) for item in items if type(item) is _Failed]:
                await letters.send_many(failed)
                items = [item for item in items if type(item) is not _Failed]
            if items:
                await self._output._send_batch(items)
