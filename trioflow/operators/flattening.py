"""Readables made of items, while the items still come.

Rule 1: what is made of an item runs inside its stage, with channels of the run's capacity.
Rule 2: the first of them that fails ends all, and so does a reader who leaves (R9, R11).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, TypeAlias

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_plain, refuse_coroutine
from trioflow._core.crew import open_crew
from trioflow._core.makers import dropping, task
from trioflow._core.pipeline import as_readable
from trioflow._core.streams import Readable, Transform
from trioflow._core.typevars import T, U
from trioflow._core.workers import Workers
from trioflow.operators.nested import send_all_of

Items: TypeAlias = "Readable[U] | AsyncIterable[U] | Iterable[U]"


def _maker(name: str, fn: Callable[[Any], Any]) -> Callable[[Any], Readable[Any]]:
    check_plain(name, fn)

    def make(item: Any) -> Readable[Any]:
        given = fn(item)
        refuse_coroutine(name, given)
        return as_readable(given)

    return make


def flat_map_merge(fn: Callable[[T], Items[U]], *, concurrency: int = 8) -> Transform[T, U]:
    """Run what `fn(item)` makes of each item, up to `concurrency` at once, and give the items of all as they come.

    Emits when: one of those that run has an item; each one's items keep their order.
    Waits when: its reader does; no further item is taken while `concurrency` are running.
    Ends when: the source has ended, and all that was made of its items.
    On cancel: all that run are cancelled.
    Holds: for each that runs one batch, beside what its channels hold.

    Args:
        fn: A plain function that makes a `Readable`, or whatever `from_iterable` takes.
        concurrency: How many to run at once; with 1 they come one behind the other.

    Raises:
        TypeError: `fn` cannot be called, is a coroutine function or makes none of these; `concurrency` is not an int.
        ValueError: `concurrency` is below 1.

    Example:
        >>> words = from_iterable(["b a", "c"]).pipe(flat_map_merge(lambda text: text.split()))
        >>> sorted(run(words.pipe(collect())))
        ['a', 'b', 'c']
    """
    make = _maker("flat_map_merge", fn)
    check_count("concurrency", concurrency, 1)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        async def work(items: list[Any]) -> list[Any]:
            await send_all_of(make(items[0]), output)
            return []  # all was sent

        await Workers(source, output, ordered=False).run(itertools.repeat(work, concurrency))

    return task(run, "flat_map_merge", fn, concurrency=concurrency)


def switch_map(fn: Callable[[T], Items[U]]) -> Transform[T, U]:
    """Run what `fn(item)` makes of the newest item; a newer one ends it, and takes its place.

    Emits when: the one that runs has an item. What it gave before it was ended stays given.
    Waits when: its reader does; newer items are taken all the same, and of those that come at once the newest alone.
    Ends when: the source has ended, and what was made of its last item.
    On cancel: the one that runs is cancelled.
    Holds: one item, and one in each channel of the one that runs. The channels after it have capacity 1, so that the
        reader gets no more than those of one that was ended.

    Args:
        fn: A plain function that makes a `Readable`, or whatever `from_iterable` takes.

    Raises:
        TypeError: `fn` cannot be called, is a coroutine function or makes none of these.

    Example:
        >>> run(
        ...     from_iterable(["old", "new"])
        ...     .pipe(switch_map(lambda word: [word, word]))
        ...     .pipe(collect())
        ... )
        ['new', 'new']
    """
    make = _maker("switch_map", fn)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        newest: list[Any] = []
        has_ended = False
        while not has_ended:
            async with open_crew() as crew:
                if newest:
                    crew.start(send_all_of, make(newest[0]), output)
                try:
                    newest = (await source.receive_many())[-1:]
                except trio.EndOfChannel:
                    has_ended = True
                else:
                    crew.cancel()

    return dropping(task(run, "switch_map", fn))
