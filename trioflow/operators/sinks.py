"""Sinks that pass items to a function, a channel or a byte stream, or discard them.

Rule 1: a plain function is applied a batch at a time, in one task with the neighbouring stages. A coroutine function gets
    one item at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trioflow._core.anyio_streams import Sends, as_trio
from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_function, is_async, refuse_coroutine
from trioflow._core.fused import Fold
from trioflow._core.makers import ending, ending_task
from trioflow._core.pipeline import as_writable
from trioflow._core.streams import Writable, wanted
from trioflow._core.typevars import T
from trioflow.operators.results import Count


def for_each(fn: Callable[[T], object]) -> Writable[T, None]:
    """Call `fn(item)` for each item, in order; `fn` may be a coroutine function.

    Waits when: `fn` runs.
    Ends when: the source ends.
    On cancel: a call in progress is cancelled.
    Holds: one batch, or one item if `fn` is a coroutine function.

    Raises:
        TypeError: `fn` is not callable, or is a plain function that returns a coroutine.

    Example:
        >>> run(from_iterable([1, 2]).pipe(for_each(print)))
        1
        2
    """
    call: Callable[[T], Any] = fn
    if not is_async(check_function("for_each", fn)):
        return ending(lambda: _ForEach(call), "for_each", fn)

    async def run(source: ReceiveChannel[Any]) -> None:
        async for item in source:
            await call(item)

    return ending_task(run, "for_each", fn)


class _ForEach(Fold[Any, None]):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn

    def feed(self, items: list[Any]) -> None:
        fn = self._fn
        for item in items:
            refuse_coroutine("for_each", fn(item))

    def result(self) -> None:
        return None


def drain() -> Writable[object, int]:
    """Discard all items and return how many there were.

    Waits when: never.
    Ends when: the source ends.
    On cancel: nothing is lost.
    Holds: one batch.

    Example:
        >>> run(from_iterable([1, 2]).pipe(tap(print)).pipe(drain()))
        1
        2
        2
    """
    return ending(Count, "drain")


def to_channel(send: trio.abc.SendChannel[T] | Sends[T]) -> Writable[T, int]:
    """Send each item to the channel `send`, close the channel, and return the number of items. It can run only once.

    Waits when: the channel is full.
    Ends when: the source ends. After a failure, a channel made by trioflow raises `trio.BrokenResourceError` in its
        readers, and in other senders if `send` is a clone; any other channel can only be closed. To send more after a
        failure, use `for_each(send.send)` instead.
    On cancel: as after a failure.
    Holds: one batch.

    Raises:
        TypeError: `send` is neither a `trio.abc.SendChannel` nor an `anyio.abc.ObjectSendStream`.
        trio.BrokenResourceError: the channel has no reader left.
    """
    if not isinstance(as_trio(send), trio.abc.SendChannel):
        raise wanted("to_channel expects a trio.abc.SendChannel", send)
    return as_writable(send)


def to_stream(stream: trio.abc.SendStream | Sends[bytes]) -> Writable[bytes, int]:
    """Write each chunk to a Trio byte stream, end the stream, and return the number of bytes. It can run only once.

    A one-way stream is closed at the end. Of a two-way stream only the sending direction is ended, with `send_eof` if it
    has that.

    Waits when: the stream does.
    Ends when: the source ends. After a failure the stream is closed at once and not gracefully, so that the other side does
        not take partial data for complete.
    On cancel: as after a failure; how much was written is unknown.
    Holds: one batch; small chunks are joined, up to 64 KiB.

    Raises:
        TypeError: `stream` is neither a `trio.abc.SendStream` nor an `anyio.abc.ByteSendStream`.
        trio.BrokenResourceError: the other side has closed the stream.
    """
    if not isinstance(as_trio(stream), trio.abc.SendStream):
        raise wanted("to_stream expects a trio.abc.SendStream", stream)
    return as_writable(stream)
