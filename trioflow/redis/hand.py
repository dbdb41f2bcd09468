"""The entries in a receiver's hand: how many it may read, and how they leave it again.

Rule 1: an entry is in hand until it is acknowledged, given back, or lost to another receiver. One that has a key counts
    until the server has confirmed its acknowledgement: its place is kept for the next entry of that key.
Rule 2: the leases of the entries in hand are renewed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import trio

from trioflow._core.errors import failure_in
from trioflow.redis.answers import Later, NoGroup, Refused
from trioflow.redis.client import ANSWER_TIMEOUT
from trioflow.redis.entry import ITEM_ALONE, entry_of
from trioflow.redis.letters import reason_of
from trioflow.redis.membership import Membership
from trioflow.redis.options import ReceiverOptions, delay_of
from trioflow.redis.receiver_scripts import ACK, GIVE_BACK, RENEW

ENTRIES_PER_CALL: Final = 500
WORDS_PER_CALL: Final = 600  # divisible by 5, so that an id and its outcome stay together
LEAVE_TIMEOUT: Final = 2.0  # seconds
FLUSH_TIMEOUT: Final = ANSWER_TIMEOUT - LEAVE_TIMEOUT  # a cancelled receiver may wait for both in turn

T = TypeVar("T", covariant=True)


class Outcome(NamedTuple):
    """How an entry is given back."""

    tries: int  # tries that count
    reason: bytes = b""  # how the last try ended
    together: bool = False  # whether other entries failed with it
    delay: int = 0  # milliseconds in which it is not delivered


class Delivery(Generic[T]):
    """A delivered entry. `async with delivery:` acknowledges it if the block succeeds, and gives it back otherwise.

    Attributes:
        id: The server's name for the entry; the same each time it is delivered.
        times: How often the entry has been delivered, including this time.
        lost: Whether another receiver has the entry by now, because this one let its lease run out.
    """

    __slots__ = ("_fields", "_hand", "_is_settled", "id", "lost", "times")

    def __init__(self, hand: Hand, name: str, fields: Sequence[bytes], times: int) -> None:
        self._hand = hand
        self._fields = fields
        self._is_settled = False
        self.id = name
        self.times = times
        self.lost = False

    @property
    def value(self) -> T:
        """The item, decoded."""
        value: T = self._hand.decode(entry_of(self._fields))
        return value

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that it was sent with, read-only."""
        return entry_of(self._fields).headers

    @property
    def key(self) -> str | None:
        """The key that it was sent with, or None."""
        return entry_of(self._fields).key

    def done(self) -> None:
        """Acknowledge the entry, which deletes it. The server is told soon after. Harmless when repeated."""
        if not self._is_settled:
            self._is_settled = True
            self._hand.settle(self, None)

    def give_back(
        self,
        *,
        tried: bool = True,
        error: BaseException | None = None,
        together: bool = False,
        delay: float | None = None,
    ) -> None:
        """Let any receiver have the entry again. Harmless when repeated.

        Args:
            tried: Whether this delivery counts as a try.
            error: Why the try failed; shown if the entry becomes a dead letter.
            together: Whether other entries failed in the same try and any of them may be the cause. The last try is
                then made with nothing else in hand.
            delay: The seconds in which it is not delivered again. The default is the receiver's retry delay, or 0 if
                not `tried`.

        Raises:
            TypeError, ValueError: `delay` is not a number from 0 to 1,000,000,000.
        """
        pause = self._hand.delay_after(self.times) if tried and delay is None else delay_of("delay", delay or 0)
        if not self._is_settled:
            self._is_settled = True
            if tried:
                self._hand.settle(self, Outcome(self.times, reason_of(error), together, pause))
            else:
                self._hand.settle(self, Outcome(max(self.times - 1, 0), delay=pause))

    async def is_lost(self) -> bool:
        """Ask the server whether another receiver has the entry by now, or has acknowledged it."""
        return self.lost or await self._hand.has_lost(self)

    async def __aenter__(self) -> Delivery[T]:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self

    async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None:
            self.done()
        else:
            failure = failure_in(exc)
            self.give_back(tried=failure is not None, error=failure)

    def __repr__(self) -> str:
        return f"<Delivery {self.id}, times={self.times}>"


class Hand:
    """The deliveries in hand, by entry.

    Attributes:
        alone_waits: Whether an entry waits for a try with nothing else in hand.
        woken: How many entries may be claimed since one of their key was acknowledged.
    """

    def __init__(self, options: ReceiverOptions, member: Membership) -> None:
        self.decode = options.decode
        self.delay_after = options.delay_after
        self._member = member
        self._prefetch = options.prefetch
        self._lease = options.lease
        self._held: dict[str, Delivery[Any]] = {}
        self._asked = 0  # entries that are being read
        self._keyed: set[str] = set()  # done, but the server has not confirmed it yet
        self._alone = ""  # the entry in hand that must be the only one, if any
        self.alone_waits = False
        self.woken = 0
        self._done: list[str | bytes | int] = []  # ids
        self._returned: list[str | bytes | int] = []  # an id and its outcome, in turns
        self._changed = trio.Event()  # set when there is something to settle
        self._freed = trio.Event()  # set when there is room to read more

    def count(self) -> int:
        """Return how many entries are here, or soon will be."""
        return len(self._held) + len(self._keyed) + self._asked

    def room(self) -> int:
        """Return how many entries may be read; none while one that must be alone is in hand or waits."""
        is_alone = self._alone in self._held or (self.alone_waits and self.count())
        return 0 if is_alone else self._prefetch - self.count()

    def expect(self, count: int) -> None:
        """Reserve room for entries that are about to be read, or release it if `count` is negative."""
        self._asked += count
        if count < 0:
            self._freed.set()

    async def wait_for_room(self, within: float) -> None:
        """Wait until an entry has left, or for `within` seconds."""
        self._freed = trio.Event()
        with trio.move_on_after(within):
            await self._freed.wait()

    def add(self, entry: str, fields: Sequence[bytes], times: int, *, alone: bool) -> Delivery[Any]:
        """Return the delivery of an entry that was read. If `alone`, no other is read while it is here."""
        self._held[entry] = delivery = Delivery[Any](self, entry, fields, times)
        if alone:
            self._alone = entry
        return delivery

    def known(self) -> set[Any]:
        """Return the entries that are here, or are settled and the server has not been told."""
        return {*self._held, *self._done, *self._returned[::5]}

    def settle(self, delivery: Delivery[Any], outcome: Outcome | None) -> None:
        """Note that a delivery is acknowledged, or how it is given back."""
        is_ours = self._held.get(delivery.id) is delivery  # the same entry may have been delivered again
        if is_ours:
            del self._held[delivery.id]
        if outcome is None:
            self._done.append(delivery.id)
            if len(delivery._fields) > ITEM_ALONE and delivery.key is not None:
                self._keyed.add(delivery.id)
        elif is_ours and not delivery.lost:
            tries, reason, together, delay = outcome
            self._returned += delivery.id, tries, reason, int(together), delay
        self._changed.set()
        self._freed.set()

    async def settle_next(self) -> None:
        """Wait until something is settled, and send it to the server."""
        await self._changed.wait()
        self._changed = trio.Event()
        await self.flush()

    async def flush(self, within: float = FLUSH_TIMEOUT) -> None:
        """Send everything that was settled, many entries in one call."""
        settled = ((ACK, self._done), (GIVE_BACK, self._returned))
        while waiting := [(script, words) for script, words in settled if words]:
            for script, words in waiting:
                part = words[:WORDS_PER_CALL]
                try:
                    answer = await self._member.run(script, *part, within=within, shield=True)
                except NoGroup:
                    await self.rejoin()
                except Later as exc:
                    await trio.sleep(exc.pause)
                except Refused as exc:
                    await self._member.fail(f"cannot be acknowledged: {exc}")
                else:
                    del words[: len(part)]
                    if script is ACK:
                        self.woken += answer
                    if self._keyed:
                        self._keyed.difference_update(part)
                        self._freed.set()

    def give_up(self) -> None:
        """Let any receiver have all of them again."""
        for delivery in list(self._held.values()):
            delivery.give_back(tried=False)
            delivery.lost = True  # for callers that ask after the connection is closed

    async def rejoin(self) -> None:
        """Join the group again after the server has lost it."""
        await self._member.join(next(iter(self._held), "-"))

    async def renew(self) -> None:
        """Renew the leases of the entries in hand, until cancelled."""
        while True:
            await trio.sleep(self._lease / 3)
            held = list(self._held.values())
            for start in range(0, max(len(held), 1), ENTRIES_PER_CALL):
                part = held[start : start + ENTRIES_PER_CALL]
                try:
                    lost = await self._member.run(RENEW, *(delivery.id for delivery in part))
                except NoGroup:
                    await self.rejoin()
                    break
                except (Later, Refused):
                    break  # the next round is soon enough
                if lost is None:
                    await self._member.fail(
                        f"was taken over by another receiver called {self._member.name!r} after this one's lease ran out"
                    )
                gone = {entry.decode() for entry in lost}
                for delivery in part:
                    if delivery.id in gone:
                        self._lose(delivery)

    async def has_lost(self, delivery: Delivery[Any]) -> bool:
        """Ask the server whether another receiver has the entry by now."""
        if await self._member.run_until_done(RENEW, delivery.id) != []:
            self._lose(delivery)
        return delivery.lost

    def _lose(self, delivery: Delivery[Any]) -> None:
        delivery.lost = True
        if self._held.get(delivery.id) is delivery:
            del self._held[delivery.id]  # it no longer counts towards `prefetch`
            self._freed.set()
