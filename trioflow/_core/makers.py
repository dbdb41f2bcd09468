"""Functions that make operators: stages, named after the call that made them, from a synchronous part or an async function."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from trioflow._core.channel import SendChannel
from trioflow._core.checks import is_async
from trioflow._core.engine import Stage, StageFunction, Wrap, release
from trioflow._core.fused import Part
from trioflow._core.generators import generate
from trioflow._core.streams import Readable, Transform, Writable, label


def fused(factory: Callable[[], Part], name: str, *args: object, **given: object) -> Transform[Any, Any]:
    """Return a transform made of a synchronous part, which shares its task with adjacent ones."""
    return Transform._of(Stage(label(name, *args, **given), factory=factory))


def task(
    function: StageFunction | Callable[[Any], AsyncIterator[Any]], name: str, *args: object, **given: object
) -> Transform[Any, Any]:
    """Return a transform made of an async function over two channels, which runs in a task of its own.

    `function` may also be an async generator function over one channel. It takes 1 µs less for each item.
    """
    if inspect.isasyncgenfunction(function):
        function = partial(generate, function, (), {})
    return Transform._of(Stage(label(name, *args, **given), function=cast("StageFunction", function)))


def per_item(
    transform: Transform[Any, Any],
    remake: Callable[[Callable[[Any], Any]], Transform[Any, Any]],
    fn: Callable[[Any], Any],
    emit: Callable[[Any, Any], Any] | None = None,
) -> Transform[Any, Any]:
    """Return `transform` in a form that lets `on_item_error` and the like wrap the function that it calls for each item.

    Args:
        transform: A single stage, which calls `fn` for each item on its own and keeps nothing between items.
        remake: Returns the transform for another function, one that returns what to emit for an item.
        fn: The function of `transform`.
        emit: Returns what to emit for an item, from the item and the result of `fn`. Without it, the result is emitted.
    """
    emitting = fn if emit is None else _emitting(fn, emit)
    [stage] = transform._stages

    def rewrapped(wrap: Wrap) -> Stage:
        [made] = remake(wrap(emitting))._stages
        return made._replace(label=stage.label)

    return transform._set(stage._replace(rewrapped=rewrapped))


def awaited(transform: Transform[Any, Any]) -> Transform[Any, Any]:
    """Return the form of a `per_item` transform that awaits its function: what its `remake` returns, under the same name."""
    [stage] = transform._stages
    assert stage.rewrapped is not None
    return Transform._of(stage.rewrapped(lambda fn: fn)._replace(rewrapped=stage.rewrapped))


def _emitting(fn: Callable[[Any], Any], emit: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """Return a function that returns what to emit for an item. It is plain or async, as `fn` is."""

    async def call_async(item: Any) -> Any:
        return emit(item, await fn(item))

    async def call_generator(item: Any) -> Any:
        async with aclosing(fn(item)) as items:
            return emit(item, [one async for one in items])

    def call(item: Any) -> Any:
        given = fn(item)
        return given if inspect.iscoroutine(given) else emit(item, given)  # `remake` refuses coroutines

    return call_async if is_async(fn) else call_generator if inspect.isasyncgenfunction(fn) else call


def marked(transform: Transform[Any, Any], **marks: Any) -> Transform[Any, Any]:
    """Return `transform`, with its stage marked as one that `passes_on` or `drops`: see `Stage`."""
    [stage] = transform._stages
    return Transform._of(stage._replace(**marks))


def source(function: StageFunction, name: str, *args: object, **given: object) -> Readable[Any]:
    """Return a source made of an async function that sends to a channel, which runs in a task of its own.

    If `args` contains Readables, it runs these. It counts as dropping items if one of them does, and closes the live ends
    of those that it has not run.
    """
    stages = [stage for readable in args if isinstance(readable, Readable) for stage in readable._stages]
    this = Stage(label(name, *args, **given), function=function, drops=any(stage.drops for stage in stages))
    if not any(stage.release for stage in stages):
        return Readable._of(this)

    async def run(output: SendChannel[Any]) -> None:
        try:
            await function(output)
        except BaseException as exc:
            await release(stages, exc)
            raise
        await release(stages)

    return Readable._of(this._replace(function=run, release=partial(release, stages)))


def ending(factory: Callable[[], Part], name: str, *args: object, **given: object) -> Writable[Any, Any]:
    """Return a sink made of a fold, which shares its task with the synchronous operators before it."""
    return Writable._of(Stage(label(name, *args, **given), factory=factory))


def ending_task(function: StageFunction, name: str, *args: object, **given: object) -> Writable[Any, Any]:
    """Return a sink made of an async function over a channel, which runs in a task of its own."""
    return Writable._of(Stage(label(name, *args, **given), function=function))


def differing(**options: tuple[object, object]) -> dict[str, object]:
    """Return those options that differ from their defaults, for a stage's name. Each is given as (value, default)."""
    return {name: value for name, (value, default) in options.items() if value != default}
