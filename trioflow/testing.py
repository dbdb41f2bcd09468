"""A conformance kit: prove a stage of your own against the numbered rules of docs/reference/rules.

Rule 1: a broken rule is an `AssertionError` that begins with its number and names the case; no test framework is needed.
Rule 2: the factory makes a new value for each case, and the value runs as users run it, in chains and opened.
Rule 3: every case has a time limit, on Trio's clock. A mock clock will do where no thread, socket or process is at work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trioflow._core.conformance import CAPACITIES, UNKNOWN, Check
from trioflow._core.streams import Readable, Transform, Writable

__all__ = ["check_readable", "check_transform", "check_writable"]

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


async def check_readable(
    factory: Callable[[], Readable[T]], *, expected: Sequence[T] | None = None, limit: float = 5
) -> None:
    """Prove a source, or a source and its transforms, against R1, R2, R4, R6, R8, R9, R11 and R16.

    Args:
        factory: Makes a new value; each gives the same items.
        expected: The items. None for an endless source, or where nobody knows: then only the first three are taken.
        limit: The longest that one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message begins with its number.
    """
    check = Check(factory, Readable, limit)
    want: Any = UNKNOWN if expected is None else list(expected)
    enough = 3 if expected is None else math.inf
    for capacity in CAPACITIES:
        await check.result("read to the end", None, want, capacity, enough)
    if expected is not None:
        await check.item_by_item(None, want)
    await check.cancelled(None)
    await check.cancelled_in_send()
    await check.reader_leaves(None, enough=1)
    await check.run_again(None, want, enough)


async def check_transform(
    factory: Callable[[], Transform[T, U]],
    items: Sequence[T],
    expected: Sequence[U] | bytes | str,
    *,
    is_stream: bool = False,
    holds: int | None = None,
    limit: float = 5,
) -> None:
    """Prove a transform against R1, R2, R4, R6 to R9, R11, R12 and R16.

    Args:
        factory: Makes a new value.
        items: What is sent in.
        expected: What must come out. A `bytes` or `str` stands for any chunks that join to it.
        is_stream: The items are chunks of one stream, `bytes` or `str`: cut at other places they give the same.
        holds: How many items it may hold beside what channels do (R7). Given, an endless source and a reader who does
            not read prove it, unless nothing is expected to come out.
        limit: The longest that one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message begins with its number.
    """
    check = Check(factory, Transform, limit)
    given = list(items)
    want: Any = expected if isinstance(expected, (bytes, str)) else list(expected)
    for how, feed in check.feeds(given, is_stream=is_stream):
        for capacity in CAPACITIES:
            await check.result(f"items {how}", feed, want, capacity)
    await check.item_by_item(given, want)
    await check.source_fails(given)
    await check.cancelled(given)
    await check.reader_leaves(given)
    await check.run_again(given, want)
    if holds is not None and want:
        await check.bound(given, want, holds)


async def check_writable(
    factory: Callable[[], Writable[T, R]], items: Sequence[T], expected: R = UNKNOWN, *, limit: float = 5
) -> None:
    """Prove a sink, or a sink and the transforms before it, against R1 to R4, R6, R9, R11 to R13 and R16.

    Args:
        factory: Makes a new value.
        items: What is sent in.
        expected: What a run must give; left out, all runs must give the same.
        limit: The longest that one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message begins with its number.
    """
    check = Check(factory, Writable, limit)
    given = list(items)
    for how, feed in check.feeds(given):
        for capacity in CAPACITIES:
            expected = await check.result(f"items {how}", feed, expected, capacity)
    await check.source_fails(given)
    await check.block_sends(given)
    await check.cancelled(given)
    await check.run_again(given, expected)
