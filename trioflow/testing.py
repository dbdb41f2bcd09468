"""Check that your own stages follow the numbered rules of docs/contributing/rules.

Rule 1: a broken rule raises an `AssertionError` that starts with the rule's number and names the case. No test framework
    is needed.
Rule 2: the factory makes a new value for each case, and the value is run as users run it, in chains and opened.
Rule 3: every case has a time limit, on Trio's clock. You can use a mock clock if the stage uses no thread, socket or
    process.
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
    factory: Callable[[], Readable[T]], *, expected: Sequence[T] | None = None, limit: float = 30
) -> None:
    """Check that a source, or a source with transforms, follows the rules.

    It must start nothing before it is run (R1), and leave nothing running or open (R2). It must yield exactly `expected` at
    any capacity (R6), then end (R8), and yield the same items in a second run or refuse it (R4). It must stop when its
    reader leaves (R9), not swallow cancellation (R11), and end in time (R16).

    Args:
        factory: A function that returns a new Readable, with the same items each time.
        expected: Its items. Pass None if the source is endless or its items are unknown; then only the first three items
            are read.
        limit: How long one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message starts with its number.
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
    limit: float = 30,
) -> None:
    """Check that a transform follows the rules.

    It must start nothing before it is run (R1), and leave nothing running or open (R2). It must yield exactly `expected` at
    any capacity and however the items are grouped (R6), then end (R8), and yield the same items in a second run or refuse
    it (R4). It must hold no more than `holds` (R7), stop when its reader leaves (R9), pass on the source's exception and
    not swallow cancellation (R11), send nothing after a failure (R12), and end in time (R16).

    Args:
        factory: A function that returns a new Transform.
        items: The items to send in.
        expected: The items that must come out. A `bytes` or `str` accepts any chunks that join to it.
        is_stream: Whether the items are chunks of one stream, `bytes` or `str`. If so, they are also cut at other places,
            which must give the same result.
        holds: How many items the transform may hold, not counting its channels. If given, this is checked with an endless
            source and a reader that does not read, unless `expected` is empty.
        limit: How long one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message starts with its number.
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
    factory: Callable[[], Writable[T, R]], items: Sequence[T], expected: R = UNKNOWN, *, limit: float = 30
) -> None:
    """Check that a sink, or transforms and a sink, follow the rules.

    It must start nothing before it is run (R1), and leave nothing running or open (R2). It must return the same result at
    any capacity and however the items are grouped (R3, R6), and again in a second run unless it refuses that (R4). It must
    stop its source when it returns early (R9), pass on the source's exception and not swallow cancellation (R11), not take
    a failure for the end (R12, R13), and end in time (R16).

    Args:
        factory: A function that returns a new Writable.
        items: The items to send in.
        expected: The result that a run must return. If it is not given, all runs must return the same result.
        limit: How long one case may take, in seconds.

    Raises:
        AssertionError: a rule is broken; the message starts with its number.
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
