"""How operators are made: a stage named after the call that made it, of a synchronous part or of an async function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trioflow._core.engine import Stage, StageFunction
from trioflow._core.fused import Part
from trioflow._core.streams import Readable, Transform, Wrap, Writable, label


def fused(factory: Callable[[], Part], name: str, *args: object, **given: object) -> Transform[Any, Any]:
    """Make a transform of a factory of synchronous parts, which shares its task with its neighbours."""
    return Transform[Any, Any].of(Stage(label(name, *args, **given), factory=factory))


def task(function: StageFunction, name: str, *args: object, **given: object) -> Transform[Any, Any]:
    """Make a transform of an async function between two channels, a task of its own."""
    return Transform[Any, Any].of(Stage(label(name, *args, **given), function=function))


def each(transform: Transform[Any, Any], around: Callable[[Wrap], Transform[Any, Any]]) -> Transform[Any, Any]:
    """Tell that `transform` treats each item by itself, and how it is made around another function."""
    transform.around = around
    return transform


def moving(transform: Transform[Any, Any]) -> Transform[Any, Any]:
    """Tell that `transform` looks at no item, and gives each on, once and in time, as it is or in a list."""
    transform.is_moving = True
    return transform


def source(function: StageFunction, name: str, *args: object, **given: object) -> Readable[Any]:
    """Make a source of an async function that sends to a channel, a task of its own."""
    return Readable[Any].of(Stage(label(name, *args, **given), function=function))


def ending(factory: Callable[[], Part], name: str, *args: object, **given: object) -> Writable[Any, Any]:
    """Make a sink of a factory of folds, which shares its task with the operators before it."""
    return Writable[Any, Any].of(Stage(label(name, *args, **given), factory=factory))


def ending_task(function: StageFunction, name: str, *args: object, **given: object) -> Writable[Any, Any]:
    """Make a sink of an async function over a channel, a task of its own."""
    return Writable[Any, Any].of(Stage(label(name, *args, **given), function=function))


def differing(**options: tuple[object, object]) -> dict[str, object]:
    """Give the options to name a stage after: each is a value and its default, and named where they differ."""
    return {name: value for name, (value, default) in options.items() if value != default}
