"""An operator that splits items by key, into one Readable for each key."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import trio

from trioflow._core.buffer import DEFAULT_CAPACITY
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_limit, check_plain, check_positive
from trioflow._core.errors import HangUp
from trioflow._core.makers import differing, task
from trioflow._core.open_channel import open_channel
from trioflow._core.pipeline import as_readable
from trioflow._core.streams import Readable, Transform, label
from trioflow._core.typevars import K, T
from trioflow.operators.unread import send_in_time


def group_by(
    key: Callable[[T], K], *, groups: int = 8, idle: float = math.inf, capacity: float = DEFAULT_CAPACITY
) -> Transform[T, tuple[K, Readable[T]]]:
    """Yield a pair `(key, Readable)` for each new `key(item)`; that `Readable` yields all items with the key.

    Read all groups at the same time: a full group that nobody reads blocks all the others. When `groups` groups are open,
    a new key ends the one that has gone longest without an item; if that group's key comes again, it starts a new group.
    So nothing gets stuck if you read `groups` of them at once and in any order, as `flat_map_merge(...)` and
    `map_async(..., ordered=False)` do.

    Emits when: an item arrives whose key has no open group.
    Waits when: downstream is not ready, or the group of the next item is full.
    Ends when: the source ends, and each group after what it holds; or the reader leaves, which ends the groups too.
    On cancel: readers of open groups get `trio.BrokenResourceError`, unless they are cancelled too.
    Holds: `capacity` for each of the `groups` open groups, plus groups that have ended and are still being read.

    Args:
        key: A plain function that returns a hashable key.
        groups: How many groups may be open at once.
        idle: After how many seconds without an item a group ends.
        capacity: The capacity of each group's channel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; while running, a key is not hashable.
        trio.TooSlowError: while running, a group has been full for 30 seconds and nothing has ever read it, while
            another reader waits.

    Example:
        >>> async def tally(pair):
        ...     letter, words = pair
        ...     return letter, await words.pipe(count())
        >>> words = from_iterable(["ant", "bee", "ape"]).pipe(group_by(lambda word: word[0]))
        >>> sorted(run(words.pipe(map_async(tally, ordered=False)).pipe(collect())))
        [('a', 2), ('b', 1)]
    """
    check_plain("group_by", key)
    check_count("groups", groups, 1)
    check_positive("idle", idle)
    check_limit("capacity", capacity)

    async def run(source: ReceiveChannel[Any], output: SendChannel[Any]) -> None:
        await _Groups(key, groups, idle, capacity, output).run(source)

    given = differing(groups=(groups, 8), idle=(idle, math.inf), capacity=(capacity, DEFAULT_CAPACITY))
    return task(run, "group_by", key, **given)


class _Group:
    """An open group: its channel, and the time of its last item."""

    __slots__ = ("last", "send")

    def __init__(self, send: SendChannel[Any]) -> None:
        self.send = send
        self.last = trio.current_time()


class _Groups:
    """The open groups of one run, ordered by the time of their last item."""

    def __init__(
        self, key: Callable[[Any], Any], most: int, idle: float, capacity: float, output: SendChannel[Any]
    ) -> None:
        self._key = key
        self._most = most
        self._idle = idle
        self._capacity = capacity
        self._output = output
        self._open: OrderedDict[Any, _Group] = OrderedDict()

    async def run(self, source: ReceiveChannel[Any]) -> None:
        try:
            while items := await self._receive(source):
                for item in items:
                    await self._give(item)
        except BaseException as exc:
            if not self._output._reader_has_left:  # if it has left, groups end normally (R9)
                for group in self._open.values():
                    group.send.abort(exc)
            raise
        finally:
            while self._open:
                self._end_first()

    async def _receive(self, source: ReceiveChannel[Any]) -> list[Any]:
        """Wait for items and end idle groups meanwhile; return an empty list when the source has ended."""
        while True:
            first = next(iter(self._open.values()), None)
            with trio.CancelScope(deadline=math.inf if first is None else first.last + self._idle):
                try:
                    return await source.receive_many()
                except trio.EndOfChannel:
                    return []
            self._end_first()

    def _end_first(self) -> None:
        _, group = self._open.popitem(last=False)
        group.send.close()

    async def _give(self, item: Any) -> None:
        key = self._key(item)
        group = self._open.get(key)
        if group is None:
            group = await self._begin(key)
        else:
            self._open.move_to_end(key)
            group.last = trio.current_time()
        try:
            try:
                group.send.send_nowait(item)
            except trio.WouldBlock:
                others = [self._output, *(each.send for each in self._open.values())]
                await send_in_time(group.send, item, others, lambda _: f"group({key!r})")
        except HangUp:
            pass  # the group's reader has left: skip its items until the group ends

    async def _begin(self, key: Any) -> _Group:
        if len(self._open) == self._most:
            self._end_first()
        send, receive = open_channel[Any](self._capacity)
        group = self._open[key] = _Group(send)
        [stage] = as_readable(receive)._stages
        readable: Readable[Any] = Readable._of(stage._replace(label=label("group", key)))
        await self._output.send((key, readable))
        return group
