"""How operators are made: a stage named after the call that made it, of a synchronous part or of an async function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from trioflow._core.channel import SendChannel
from trioflow._core.checks import is_async
from trioflow._core.engine import Stage, StageFunction, Wrap, release
from trioflow._core.fused import Part
from trioflow._core.streams import Readable, Transform, Writable, label


def fused(factory: Callable[[], Part], name: str, *args: object, **given: object) -> Transform[Any, Any]:
    """Make a transform of a factory of synchronous parts, which shares its task with its neighbours."""
    return Transform._of(Stage(label(name, *args, **given), factory=factory))


def task(function: StageFunction, name: str, *args: object, **given: object) -> Transform[Any, Any]:
    """Make a transform of an async function between two channels, a task of its own."""
    return Transform._of(Stage(label(name, *args, **given), function=function))


def per_item(
    transform: Transform[Any, Any],
    remake: Callable[[Callable[[Any], Any]], Transform[Any, Any]],
    fn: Callable[[Any], Any],
    emit: Callable[[Any, Any], Any] | None = None,
) -> Transform[Any, Any]:
    """Let others wrap the function that `transform` calls for each item, and nothing else.

    Args:
        transform: One stage, which calls `fn` for each item by itself and holds nothing from one to the next.
        remake: Makes it again of another function: of one that returns what is emitted for an item.
        fn: Its function.
        emit: Makes what is emitted for an item of the item and of what `fn` returned; `fn` returns that itself unless
            given.
    """
    emitting = fn if emit is None else _emitting(fn, emit)
    [stage] = transform._stages

    def rewrapped(wrap: Wrap) -> Stage:
        [made] = remake(wrap(emitting))._stages
        return made._replace(label=stage.label)

    return Transform._of(stage._replace(rewrapped=rewrapped))


def awaited(transform: Transform[Any, Any]) -> Transform[Any, Any]:
    """Return the form of what `per_item` made that awaits its function: that of `remake`, under the same name."""
    [stage] = transform._stages
    assert stage.rewrapped is not None
    return Transform._of(stage.rewrapped(lambda fn: fn)._replace(rewrapped=stage.rewrapped))


def _emitting(fn: Callable[[Any], Any], emit: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """Make of `fn` a function, plain or async as it is, that returns what is emitted for an item."""

    async def call_async(item: Any) -> Any:
        return emit(item, await fn(item))

    async def call_generator(item: Any) -> Any:
        async with aclosing(fn(item)) as items:
            return emit(item, [one async for one in items])

    def call(item: Any) -> Any:
        given = fn(item)
        return given if inspect.iscoroutine(given) else emit(item, given)  # a coroutine is for `remake` to refuse

    return call_async if is_async(fn) else call_generator if inspect.isasyncgenfunction(fn) else call


def passing_on(transform: Transform[Any, Any]) -> Transform[Any, Any]:
    """Mark that `transform` looks at no item, and hands each on once and in time, as it is or in a list."""
    [stage] = transform._stages
    return Transform._of(stage._replace(passes_on=True))


def dropping(transform: Transform[Any, Any]) -> Transform[Any, Any]:
    """Mark that `transform` drops what its reader is too slow for."""
    [stage] = transform._stages
    return Transform._of(stage._replace(drops=True))


def source(function: StageFunction, name: str, *args: object, **given: object) -> Readable[Any]:
    """Make a source of an async function that sends to a channel, a task of its own.

    It runs the Readables in `args`, if any: it drops if one of them does, and closes the live ends of those it has not run.
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
    """Make a sink of a factory of folds, which shares its task with the operators before it."""
    return Writable._of(Stage(label(name, *args, **given), factory=factory))


def ending_task(function: StageFunction, name: str, *args: object, **given: object) -> Writable[Any, Any]:
    """Make a sink of an async function over a channel, a task of its own."""
    return Writable._of(Stage(label(name, *args, **given), function=function))


def differing(**options: tuple[object, object]) -> dict[str, object]:
    """Give the options to name a stage after: each is a value and its default, and named where they differ."""
    return {name: value for name, (value, default) in options.items() if value != default}
