"""`open_channel`: a channel on its own, for code outside a run that sends and receives items."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from trioflow._core.buffer import DEFAULT_CAPACITY, Buffer, Overflow, check_overflow
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_limit

T = TypeVar("T")


class _Subscriptable:
    """A function that accepts a type in brackets, for type checkers: `open_channel[str](16)`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __getitem__(self, _: object) -> Self:
        return self

    def __get__(self, *_: object) -> Self:
        return self  # because of this method `help` shows it as a function


if TYPE_CHECKING:

    class open_channel(tuple[SendChannel[T], ReceiveChannel[T]]):  # noqa: N801
        def __new__(  # type: ignore[misc]  # it returns a plain tuple
            cls, capacity: float = ..., *, overflow: Overflow = ...
        ) -> tuple[SendChannel[T], ReceiveChannel[T]]: ...
        def __init__(self, capacity: float = ..., *, overflow: Overflow = ...) -> None: ...

else:

    @_Subscriptable
    def open_channel(
        capacity: float = DEFAULT_CAPACITY, *, overflow: Overflow = "wait"
    ) -> tuple[SendChannel[T], ReceiveChannel[T]]:
        """Open a bounded channel, and return its two ends in the order in which data flows: `(send, receive)`.

        Holds: items with a total weight of at most `capacity`. An item weighs 1; a bytes-like one 1 for each started 4 KiB.

        Args:
            capacity: The most weight to hold, at least 1; `math.inf` for no limit.
            overflow: What `send` does when there is no room: `"wait"`; `"drop_oldest"` or `"drop_newest"`, which count in
                `statistics().dropped`; or `"fail"`, which raises `BufferError`.

        Raises:
            TypeError, ValueError: `capacity` is neither an int of at least 1 nor `math.inf`, or `overflow` is unknown.

        Example:
            >>> send, receive = open_channel[str](capacity=2)
            >>> send.send_nowait("a")
            >>> receive.receive_nowait()
            'a'
        """
        buffer: Buffer[T] = Buffer(check_limit("capacity", capacity), check_overflow(overflow))
        return SendChannel(buffer), ReceiveChannel(buffer)
