"""Type variables for operators on items of any type, chosen so that both type checkers understand a `pipeline`.

In `pipeline(a, b, tap(print), collect())` mypy reads `tap(print)` before it knows what `b` emits. A type that it cannot
infer at that point must be Any: with Never or object, mypy would refuse a correct pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, TypeGuard, TypeVar

if TYPE_CHECKING:
    import typing_extensions

    T = typing_extensions.TypeVar("T", default=Any)
    # The type that a filter's function narrows T to; T if it does not narrow.
    V = typing_extensions.TypeVar("V", default=T)
    # These are always inferred. They need a default because T, which comes before them, has one.
    U = typing_extensions.TypeVar("U", default=typing_extensions.Never)
    K = typing_extensions.TypeVar("K", bound=Hashable, default=typing_extensions.Never)
    # A pipeline's value: an int, the number of items or bytes, if it ends in a channel or a byte stream.
    R = typing_extensions.TypeVar("R", default=int)
else:
    T = TypeVar("T")
    V = TypeVar("V")
    U = TypeVar("U")
    K = TypeVar("K", bound=Hashable)
    R = TypeVar("R")


# The items of each of up to nine stages, or readables.
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


# A function of any object, such as `print`. It is offered beside `Callable[[T], object]`, or mypy would take T for object.
# Pyright does not need it, and would take a lambda for one.
MYPY = False  # mypy treats it as True
if MYPY:
    OfAny: TypeAlias = _OfAny  # pyright: ignore[reportRedeclaration]
    Guard: TypeAlias = "Callable[[T], TypeGuard[V]]"  # pyright: ignore[reportRedeclaration]
else:
    OfAny: TypeAlias = NoReturn  # pyright: ignore[reportRedeclaration]
    # Pyright infers a lambda's argument in `pipe(filter(...))` only if the first overload accepts every function.
    Guard: TypeAlias = "Callable[[T], TypeGuard[V]] | Narrow[T, V] | Callable[[T], object]"  # pyright: ignore[reportRedeclaration]
Narrow: TypeAlias = "Callable[[T], typing_extensions.TypeIs[V]]"
