"""The beginnings: where items come from."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeVar, overload

from trioflow._pipeline import as_readable
from trioflow._streams import Readable

T = TypeVar("T")


@overload
def from_iterable(items: bytes | bytearray | memoryview) -> Readable[bytes]: ...
@overload
def from_iterable(items: AsyncIterable[T] | Iterable[T]) -> Readable[T]: ...
def from_iterable(items: Any) -> Readable[Any]:
    """Give the items of an iterable, an async iterable, a channel or a byte stream. A `str` or bytes-like is one item.

    What can be iterated anew runs anew; an iterator, a channel or a stream runs once, and is closed at the end (R4);
    a two-way stream is not closed.

    Emits when: the iterable gives an item; a plain iterable must not block.
    Waits when: its reader does: of a plain iterable, at most one item is taken that the reader has no room for.
    Ends when: the iterable does.
    On cancel: what was taken and not received is lost; an iterator is closed.
    Holds: one batch, at most as large as its reader has room for.

    Raises:
        TypeError: `items` is none of these.

    Example:
        >>> run(from_iterable([1, 2]).pipe(collect()))
        [1, 2]
    """
    return as_readable(items)
