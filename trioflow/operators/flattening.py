"""Operators that make a Readable from each item and run it.

Rule 1: the Readables run inside the operator's stage, with channels of the run's capacity.
Rule 2: if one of them fails or the reader leaves, all of them end (R9, R11).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, TypeAlias

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_plain, refuse_coroutine
from trioflow._core.crew import Crew
from trioflow._core.makers import marked, task
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
    """Run the `Readable` that `fn(item)` returns for each item, up to `concurrency` at once, and merge their items.

    Emits when: one of the running Readables has an item. Items of the same Readable stay in order.
    Waits when: downstream is not ready. While `concurrency` Readables are running, no further item is taken.
    Ends when: the source and all the Readables have ended.
    On cancel: all running Readables are cancelled.
    Holds: what the channels of each running Readable hold.

    Args:
        fn: A plain function that returns a `Readable`, or anything that `from_iterable` accepts.
        concurrency: How many to run at once; with 1 they run one after the other.

    Raises:
        TypeError: `fn` is not callable, is a coroutine function or returns something else; `concurrency` is not an int.
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
            return []  # already sent

        await Workers(source, output, ordered=False).run(itertools.repeat(work, concurrency))

    return task(run, "flat_map_merge", fn, concurrency=concurrency)


def switch_map(fn: Callable[[T], Items[U]]) -> Transform[T, U]:
    """Run the `Readable` that `fn(item)` returns for the newest item; a newer item cancels it and starts its own.

    Emits when: the running Readable has an item. Items that it sent before it was cancelled are still delivered.
    Waits when: downstream is not ready. Newer items are taken even then; if several arrive at once, only the newest counts.
    Ends when: the source and the Readable for its last item have ended.
    On cancel: the running Readable is cancelled.
    Holds: one item, and what the channels of the running Readable hold. The channels after this stage have capacity 1, so
        that few outdated items reach the reader.

    Args:
        fn: A plain function that returns a `Readable`, or anything that `from_iterable` accepts.

    Raises:
        TypeError: `fn` is not callable, is a coroutine function or returns something else.

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
            async with Crew() as crew:
                if newest:
                    crew.start(send_all_of, make(newest[0]), output)
                try:
                    newest = (await source.receive_many())[-1:]
                except trio.EndOfChannel:
                    has_ended = True
                else:
                    crew.cancel()

    return marked(task(run, "switch_map", fn), drops=True)
