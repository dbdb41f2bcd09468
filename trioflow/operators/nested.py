"""Run Readables inside a stage.

Rule: if one of them fails, the block that reads it is cancelled at once, whatever it waits for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from typing import Any

import trio

from trioflow._core.block import block
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import open_readable
from trioflow._core.moving import forward
from trioflow._core.streams import Readable, wanted


@block
async def open_all(
    readables: Iterable[Readable[Any]], output: SendChannel[Any]
) -> AsyncGenerator[list[ReceiveChannel[Any]], None]:
    """Run `readables` beside a block that reads them for `output`, with channels of the capacity of its run."""
    with trio.CancelScope() as scope:
        async with _open_each([*readables], output._run_capacity, scope.cancel) as receives:
            yield receives


@block
async def _open_each(
    readables: Sequence[Readable[Any]], capacity: float, on_failure: Callable[[], None]
) -> AsyncGenerator[list[ReceiveChannel[Any]], None]:
    """Run `readables`, each in its own block. The list is halved each time, so that a thousand blocks nest ten deep."""
    if len(readables) == 1:
        async with open_readable(readables[0]._stages, capacity, on_failure) as receive:
            yield [receive]
    elif readables:
        half = len(readables) // 2
        async with (
            _open_each(readables[:half], capacity, on_failure) as first,
            _open_each(readables[half:], capacity, on_failure) as others,
        ):
            yield first + others
    else:
        yield []


async def send_all_of(readable: Readable[Any], output: SendChannel[Any]) -> None:
    """Run `readable` and send all its items to `output`."""
    async with open_all([readable], output) as [receive]:
        await forward(receive, output)


def check_readables(name: str, readables: tuple[Any, ...]) -> None:
    """Raise if one of `readables` is not a Readable."""
    for readable in readables:
        if not isinstance(readable, Readable):
            is_list = len(readables) == 1 and isinstance(readable, Iterable)
            raise _not_readable(f"{name} expects Readables", readable, f"{name}(*readables)" if is_list else "")


def check_readable(name: str, readable: object) -> None:
    """Raise if `readable` is not one."""
    if not isinstance(readable, Readable):
        raise _not_readable(f"{name} expects a Readable", readable)


def _not_readable(what: str, given: object, instead: str = "") -> TypeError:
    if not instead and isinstance(given, (Iterable, AsyncIterable)):
        instead = "tf.from_iterable(...) around it"
    return TypeError(f"{wanted(what, given)}; write {instead}") if instead else wanted(what, given)
