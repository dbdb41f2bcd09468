"""The decorators that turn an async function into a function that returns streams.

Rule 1: the form with channels is the basic one; a generator is run by a stage of that form.
Rule 2: a generator runs in its stage's own task, and is closed there.
Rule 3: arguments are bound when you call the decorated function, so a wrong one raises there, and not in the run (R1).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import Stage
from trioflow._core.generators import generate
from trioflow._core.streams import Readable, Transform, Writable, label

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


@overload
def readable(function: Callable[P, AsyncIterator[T]]) -> Callable[P, Readable[T]]: ...
@overload
def readable(function: Callable[Concatenate[SendChannel[T], P], Awaitable[None]]) -> Callable[P, Readable[T]]: ...
def readable(
    function: Callable[P, AsyncIterator[T]] | Callable[Concatenate[SendChannel[T], P], Awaitable[None]],
) -> Callable[P, Readable[T]]:
    """Turn an async generator, or an async function that sends to a channel, into a function that returns a `Readable`.

    Raises:
        TypeError: `function` is neither.

    Example:
        >>> @readable
        ... async def countdown(start: int) -> AsyncIterator[int]:
        ...     while start:
        ...         yield start
        ...         start -= 1
        >>> run(countdown(3).pipe(collect()))
        [3, 2, 1]
    """
    return _factory(function, 1, Readable[Any]._of, "readable")


@overload
def transform(
    function: Callable[Concatenate[AsyncIterable[T], P], AsyncIterator[U]],
) -> Callable[P, Transform[T, U]]: ...
@overload
def transform(
    function: Callable[Concatenate[ReceiveChannel[T], P], AsyncIterator[U]],
) -> Callable[P, Transform[T, U]]: ...
@overload
def transform(
    function: Callable[Concatenate[ReceiveChannel[T], SendChannel[U], P], Awaitable[None]],
) -> Callable[P, Transform[T, U]]: ...
def transform(
    function: Callable[Concatenate[AsyncIterable[T], P], AsyncIterator[U]]
    | Callable[Concatenate[ReceiveChannel[T], P], AsyncIterator[U]]
    | Callable[Concatenate[ReceiveChannel[T], SendChannel[U], P], Awaitable[None]],
) -> Callable[P, Transform[T, U]]:
    """Turn an async generator over items, or an async function over two channels, into a function that returns a `Transform`.

    Code after the loop runs once, when the items have ended, and not after a failure. Do not `yield` inside a nursery or
    a cancel scope: write the form with two channels, `(source, output)`, instead.

    Raises:
        TypeError: `function` is neither.

    Example:
        >>> @transform
        ... async def numbered(lines: AsyncIterable[str], start: int = 1) -> AsyncIterator[str]:
        ...     async for line in lines:
        ...         yield f"{start} {line}"
        ...         start += 1
        >>> run(from_iterable(["a", "b"]).pipe(numbered()).pipe(collect()))
        ['1 a', '2 b']
    """
    return _factory(function, 2, Transform[Any, Any]._of, "transform")


@overload
def writable(function: Callable[Concatenate[AsyncIterable[T], P], Awaitable[R]]) -> Callable[P, Writable[T, R]]: ...
@overload
def writable(function: Callable[Concatenate[ReceiveChannel[T], P], Awaitable[R]]) -> Callable[P, Writable[T, R]]: ...
def writable(
    function: Callable[Concatenate[AsyncIterable[T], P], Awaitable[R]]
    | Callable[Concatenate[ReceiveChannel[T], P], Awaitable[R]],
) -> Callable[P, Writable[T, R]]:
    """Turn an async function that loops over items and returns a value into a function that returns a `Writable`.

    Raises:
        TypeError: `function` is not an async function.

    Example:
        >>> @writable
        ... async def longest(words: AsyncIterable[str]) -> int:
        ...     return max([len(word) async for word in words])
        >>> run(from_iterable(["a", "bcd"]).pipe(longest()))
        3
    """
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"writable expects an async function that returns a result, but {function.__name__} yields")
    return _factory(function, 1, Writable[Any, Any]._of, "writable")


def _factory(
    function: Callable[..., Any], channels: int, make: Callable[[Stage], Any], kind: str
) -> Callable[..., Any]:
    name = getattr(function, "__name__", repr(function))
    is_generator = inspect.isasyncgenfunction(function)
    if not is_generator and not inspect.iscoroutinefunction(function):
        raise TypeError(f"{kind} expects an async function or an async generator function, got {name}")
    given = channels - 1 if is_generator else channels
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    has_two = len(parameters) > 1 and parameters[1].default is inspect.Parameter.empty
    if channels == 2 and not (is_generator or has_two):
        raise TypeError(f"{kind}: {name} has no yield; yield its output, or take two channels, (source, output)")
    if len(parameters) < given:
        raise TypeError(
            f"{kind} expects a function with at least {given} channel parameters, but {name} takes {len(parameters)}"
        )
    needs_nothing = all(
        parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters[given:]
    )
    run = generate if is_generator else _call

    def stage_of(*args: Any, **kwargs: Any) -> Stage:
        is_plain = not (is_generator or args or kwargs)
        bound = function if is_plain else functools.partial(run, function, args, kwargs)
        return Stage(label(name, *args, **kwargs), function=bound)

    bare = make(stage_of()) if needs_nothing else None  # for every call without arguments, as most are

    def factory(*args: Any, **kwargs: Any) -> Any:
        if bare is not None and not args and not kwargs:
            return bare
        signature.bind(*(None,) * given, *args, **kwargs)
        return make(stage_of(*args, **kwargs))

    made: Any = functools.update_wrapper(factory, function)
    del made.__wrapped__  # its signature is not the factory's
    made.__signature__ = signature.replace(parameters=parameters[given:])
    return factory


def _call(
    function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any], *ends: Any
) -> Awaitable[Any]:
    return function(*ends, *args, **kwargs)
