"""The types of operators that take items of any type, so that both type checkers know them in a `pipeline`.

In `pipeline(a, b, tap(print), collect())` mypy reads `tap(print)` before it knows what comes from `b`. What it cannot
infer then must be Any: if it were Never or object, mypy would refuse a pipeline that is right.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, TypeGuard, TypeVar

if TYPE_CHECKING:
    import typing_extensions

    T = typing_extensions.TypeVar("T", default=Any)
    # What a filter's function narrows T to; a function that does not narrow leaves T.
    V = typing_extensions.TypeVar("V", default=T)
    # These are always inferred. They have a default because T has one, which comes before them.
    U = typing_extensions.TypeVar("U", default=typing_extensions.Never)
    K = typing_extensions.TypeVar("K", bound=Hashable, default=typing_extensions.Never)
    # What a pipeline gives: an int, the number of items or bytes, where it ends in a channel or a byte stream.
    R = typing_extensions.TypeVar("R", default=int)
else:
    T = TypeVar("T")
    V = TypeVar("V")
    U = TypeVar("U")
    K = TypeVar("K", bound=Hashable)
    R = TypeVar("R")


# What comes from each of up to nine stages, or readables.
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
I = TypeVar("I")  # noqa: E741


class _OfAny(Protocol):
    def __call__(self, item: object, /) -> Any: ...


# A function of any object, such as `print`: beside `Callable[[T], object]`, so that T is not taken for object.
# Pyright needs no such help, and would take a lambda for one.
MYPY = False  # mypy takes it for True
if MYPY:
    OfAny: TypeAlias = _OfAny  # pyright: ignore[reportRedeclaration]
    Guard: TypeAlias = "Callable[[T], TypeGuard[V]]"  # pyright: ignore[reportRedeclaration]
else:
    OfAny: TypeAlias = NoReturn  # pyright: ignore[reportRedeclaration]
    # Pyright knows a lambda's argument in `pipe(filter(...))` only where the first overload takes every function.
    Guard: TypeAlias = "Callable[[T], TypeGuard[V]] | Narrow[T, V] | Callable[[T], object]"  # pyright: ignore[reportRedeclaration]
Narrow: TypeAlias = "Callable[[T], typing_extensions.TypeIs[V]]"
