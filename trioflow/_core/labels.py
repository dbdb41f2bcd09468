"""Text for people: the names of stages in notes, reprs and errors, and sizes in bytes."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40

    def repr_bytes(self, x: bytes, level: int) -> str:
        shown = repr(bytes(x[: self.maxstring]))  # the repr of a hundred megabytes takes a second
        return shown if len(x) <= self.maxstring else f"{shown}..."

    repr_bytearray = repr_bytes

    def repr_instance(self, x: Any, level: int) -> str:
        return x.__name__ if callable(x) and hasattr(x, "__name__") else super().repr_instance(x, level)


_brief = _Brief()
_MOST: Final = 6  # arguments to show; `concat` may have a thousand
_ARGUMENTS: Final = re.compile(r"\(.*\)", re.DOTALL)


def shown(arg: object) -> str:
    """Return the repr of `arg` cut to about 40 characters, without building the whole repr of a large value."""
    if type(arg) is str and len(arg) < 40 and len(text := repr(arg)) <= 40:
        return text  # the same text, sooner: every run is named when it is made, and reprlib takes 3 µs for a file name
    return _brief.repr(arg)


def label(name: str, *args: object, **kwargs: object) -> Callable[[], str]:
    """Return a function that names a stage in notes and reprs: the call as it was written, shortened, rendered on demand."""
    return partial(_render, name, args, kwargs)


def _render(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    given = [shown(arg) for arg in args[:_MOST]]
    if len(args) > _MOST:
        given.append("...")
    given += [f"{key}={_brief.repr(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(given)})"


def name_without_values(label: Callable[[], str]) -> str:
    """Return a stage's name without the values of its arguments, which may be the user's data: `map(parse)`, `batch`."""
    if not isinstance(label, partial):
        return _ARGUMENTS.sub("", label())
    name, args, kwargs = label.args
    functions = [arg.__name__ for arg in (*args, *kwargs.values()) if callable(arg) and hasattr(arg, "__name__")]
    return f"{name}({', '.join(functions)})" if functions else str(name)


class ChainName(str):
    """The name of a chain of stages, rendered on demand: to render it at once would cost 1.4 µs a stage."""

    __slots__ = ("stages",)

    stages: Sequence[Any]  # each with a `label`

    def __str__(self) -> str:
        return " | ".join(stage.label() for stage in self.stages)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def name_of(function: object) -> str:
    """Return the name of a function, or the type of a callable object."""
    return getattr(function, "__name__", type(function).__name__)


def wanted(what: str, given: object) -> TypeError:
    """Return the error for a wrong argument: `what` was expected, and what came."""
    came = f"the function {name_of(given)}; call it first" if callable(given) else f"{type(given).__name__} {given!r}"
    return TypeError(f"{what}, got {came}")


def refused(message: str) -> Any:
    """Return a special method that raises a `TypeError` which says what to do, where Python's own error would not.

    Define it where type checkers do not look, so that they still refuse its use.
    """

    def refuse(self: object, *args: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} {message}")

    return refuse


def shown_bytes(count: float) -> str:
    """Return a number of bytes in about three digits, such as 3.2 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
