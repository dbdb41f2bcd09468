"""Argument checks, run when a value is built and not when it runs (R1). Each error says what was expected and what came."""

from __future__ import annotations

import codecs
import inspect
import math
from collections.abc import Iterable
from types import FunctionType
from typing import Any, Final

from trioflow._core.labels import name_of

BYTES_LIKE: Final = (bytes, bytearray, memoryview)


def _of_call(message: str) -> str:
    """Put the name of the function that the user called before `message`."""
    name = ""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("trioflow."):
        name = frame.f_code.co_name
        if name in ("__init__", "__post_init__"):
            name = type(frame.f_locals["self"]).__name__
        frame = frame.f_back
    return message if message.startswith(f"{name} ") else f"{name}: {message}"  # as for a property


def check_count(name: str, value: object, least: int, most: float = math.inf) -> int:
    """Return `value` if it is an int from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_of_call(f"{name} must be an int, got {value!r}"))
    if value < least:
        raise ValueError(_of_call(f"{name} must be at least {least}, got {value}"))
    if value > most:
        raise ValueError(_of_call(f"{name} must be at most {most}, got {value}"))
    return value


def check_flags(**flags: object) -> None:
    """Raise if one of `flags` is not a bool."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(_of_call(f"{name} must be a bool, got {value!r}"))


def check_limit(name: str, value: object, least: int = 1) -> float:
    """Return `value` if it is an int of `least` or more, or `math.inf` for no limit."""
    if value != math.inf and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(_of_call(f"{name} must be an int or math.inf, got {value!r}"))
    return math.inf if value == math.inf else check_count(name, value, least)


def check_positive(name: str, value: object, *, may_be_0: bool = False) -> float:
    """Return `value` if it is a number above 0, such as a time in seconds; with `may_be_0` also if it is 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(_of_call(f"{name} must be a number, got {value!r}"))
    if not (value > 0 or (may_be_0 and value == 0)):
        raise ValueError(_of_call(f"{name} must be {'0 or more' if may_be_0 else 'above 0'}, got {value}"))
    return value


def check_type(name: str, value: object, kind: Any, wish: str) -> None:
    """Raise if `value` is not of this kind, which `wish` names."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wish}, got {value!r}")


def check_function(name: str, function: Any) -> Any:
    """Return `function` if it can be called."""
    if not callable(function):
        raise TypeError(f"{name} expects a function, got {function!r}")
    return function


def check_async(name: str, function: Any) -> Any:
    """Return `function` if it is async. A lambda passes too, as it may return a coroutine."""
    if not is_async(check_function(name, function)) and name_of(function) != "<lambda>":
        raise TypeError(f"{name} expects an async function, got {name_of(function)}; define it with `async def`")
    return function


def check_plain(name: str, function: Any, hint: str = "") -> Any:
    """Return `function` if it is callable and not async. `hint` says which function takes an async one."""
    if is_async(check_function(name, function)):
        raise TypeError(f"{name} expects a plain function, got the coroutine function {name_of(function)}{hint}")
    return function


def check_exceptions(name: str, on: Any) -> tuple[type[Exception], ...]:
    """Return `on` as a tuple of Exception classes. `Cancelled` and the like are refused: they are BaseExceptions."""
    kinds: tuple[Any, ...] = on if isinstance(on, tuple) else (on,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise TypeError(f"{name}: on must be an Exception class or a tuple of them, got {on!r}")
    return kinds


def is_async(function: Any) -> bool:
    """Return whether calling `function` returns a coroutine. Knows partials, and objects with an async `__call__`."""
    if type(function) is FunctionType:  # most are, and looking at their `__call__` would take as long again
        return inspect.iscoroutinefunction(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def refuse_coroutine(name: str, given: object, *, others: Iterable[Any] = ()) -> None:
    """Raise if a plain function returned the coroutine `given`, as a lambda around an async function does.

    `others` are what it returned for the other items; they are closed as well.
    """
    if inspect.iscoroutine(given):
        for coroutine in (given, *others):
            coroutine.close()  # or Python warns that it was never awaited
        raise TypeError(f"{name}: the function returned a coroutine; pass the async function itself")


def check_kinds(wish: str, items: Iterable[Any], kinds: type | tuple[type, ...] = BYTES_LIKE, hint: str = "") -> None:
    """Raise if one of `items` is not of these kinds. The error names its type alone, as the value may be large."""
    for kind in set(map(type, items)):
        if not issubclass(kind, kinds):
            if not hint and issubclass(kind, (str, *BYTES_LIKE)):
                hint = f"; pipe through {'tf.encode()' if kind is str else 'tf.lines() or tf.decode()'} first"
            raise TypeError(f"{wish}, got {kind.__name__}{hint}")


def check_codec(name: str, encoding: object, errors: object = "strict") -> None:
    """Raise if Python has no such text encoding or error handler."""
    if not isinstance(encoding, str):
        raise TypeError(f"{name} expects the name of an encoding, got {type(encoding).__name__} {encoding!r}")
    if not isinstance(errors, str):
        raise TypeError(f"{name}: errors must be the name of an error handler, got {type(errors).__name__} {errors!r}")
    "".encode(encoding)  # raises LookupError if there is no such encoding, or if it does not encode text
    codecs.lookup_error(errors)
