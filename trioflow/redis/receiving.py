"""The receiving end of a stream in Redis: deliveries, each acknowledged, given back, or lost to another receiver.

Rule 1: no call to the server is cancelled because somebody's `receive` is: a task of its own reads ahead, as many as
    `prefetch` beside what is in hand, and what it took is delivered or given back.
Rule 2: what is held is renewed; what others hold longer than their lease without renewing it is taken over.
Rule 3: after a silence of the server nobody's lease is taken for run out until everybody had time to renew it.
Rule 4: whoever leaves gives back what he has not worked on, and it counts as never tried.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, TypeVar

import trio

from trioflow._core.buffer import Buffer
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.crew import open_crew
from trioflow._core.errors import failure_in
from trioflow.redis.client import PATIENCE, Address, Line, Lost, Refused, open_lines
from trioflow.redis.scripts import ACK, CLAIM, END, JOIN, LEAVE, OWN, RENEW, RETURN, Keys
from trioflow.redis.sending import first_call, own_name

T = TypeVar("T", covariant=True)

TICK: Final = 1.0  # seconds between two looks at what others have left, at most
AT_ONCE: Final = 500  # entries in one call
LEAVING: Final = 2.0  # seconds for the last word of a receiver


class Delivery(Generic[T]):
    """One entry in hand. `async with delivery:` acknowledges it when the block ends well, and gives it back otherwise.

    Attributes:
        id: What the server calls the entry; the same each time it is delivered.
        times: How often it has been delivered, this one included.
        lost: Whether another receiver has it by now, as this one was not heard of for longer than its lease.
    """

    __slots__ = ("_is_settled", "_raw", "_receiver", "id", "lost", "times")

    def __init__(self, receiver: _Receiver, entry: str, raw: bytes, times: int) -> None:
        self._receiver = receiver
        self._raw = raw
        self._is_settled = False
        self.id = entry
        self.times = times
        self.lost = False

    @property
    def value(self) -> T:
        """The item, decoded."""
        value: T = self._receiver.decode(self._raw)
        return value

    def done(self) -> None:
        """Acknowledge it, soon and with others: it is deleted. Harmless when repeated."""
        if not self._is_settled:
            self._is_settled = True
            self._receiver.settle(self)

    def give_back(self, *, tried: bool = True) -> None:
        """Let it be delivered again, to any receiver; with `tried` this was one of its tries. Harmless when repeated."""
        if not self._is_settled:
            self._is_settled = True
            self._receiver.settle(self, self.times if tried else self.times - 1)

    async def is_lost(self) -> bool:
        """Ask the server whether another receiver has it by now, or has done it."""
        return self.lost or await self._receiver.has_lost(self)

    async def __aenter__(self) -> Delivery[T]:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.done()
        else:
            self.give_back(tried=failure_in(exc) is not None)

    def __repr__(self) -> str:
        return f"<Delivery {self.id}, for the {self.times}. time>"


class _Receiver:
    """What is in hand, and the tasks that read, settle and renew."""

    def __init__(
        self,
        name: str,
        lines: Sequence[Line],
        decode: Callable[[bytes], Any],
        group: str,
        receiver: str,
        *,
        prefetch: int,
        lease: float,
        tries: float,
    ) -> None:
        self.decode = decode
        self._keys = Keys(name)
        self._what = f"the stream {name!r}"
        self._ask, self._read = lines
        self._group = group
        self._me = receiver
        self._token = secrets.token_hex(8)
        self._prefetch = prefetch
        self._lease = lease
        self._lease_ms = math.ceil(lease * 1000)
        self._tries = int(min(tries, 1 << 53))
        self._tick = min(lease / 3, TICK)
        self._held: dict[str, Delivery[Any]] = {}
        self._done: list[str] = []
        self._returned: list[tuple[str, int]] = []
        self._is_broken = False
        self._changed = trio.Event()  # there is something to settle
        self._room = trio.Event()  # and therefore room for more
        buffer: Buffer[Any] = Buffer(math.inf, "wait")
        self._output: SendChannel[Delivery[Any]] = SendChannel(buffer)
        self.deliveries: ReceiveChannel[Delivery[Any]] = ReceiveChannel(buffer)

    def settle(self, delivery: Delivery[Any], tries: int | None = None) -> None:
        """Note that a delivery is done, or is to be given back with so many tries."""
        is_ours = self._held.get(delivery.id) is delivery  # and not delivered anew since
        if is_ours:
            del self._held[delivery.id]
        if tries is None:
            self._done.append(delivery.id)
        elif is_ours and not delivery.lost:
            self._returned.append((delivery.id, max(tries, 0)))
        self._changed.set()
        self._room.set()

    async def join(self) -> None:
        """Make the group where it is not yet, and take our name.

        Raises:
            trio.BusyResourceError: a receiver of that name is alive.
            ValueError: another group reads this stream.
        """
        answer = await self._insist_through_full(JOIN, self._group, self._me, self._token, self._lease_ms)
        if answer == 0:
            raise trio.BusyResourceError(f"a receiver called {self._me!r} reads {self._what}, and is alive")
        if answer != 1:
            raise ValueError(
                f"{self._what} is read by the group {answer.decode()!r}, and what one group acknowledges is deleted: "
                f"for a second one, {self._group!r}, send to a second stream"
            )

    async def pump(self) -> None:
        """Read until the end, which is told behind the last entry."""
        known = 0
        tick_at = 0.0
        claim_at = 0.0
        waiting = 0  # whether a last try is to be made, when nothing else is in hand
        while True:
            now = trio.current_time()
            heard_at = max(self._ask.answered_at, self._read.answered_at)
            try:
                if self._read.connections != known:
                    # What an answer held that never came is ours, and nobody has it in hand.
                    known = self._read.connections
                    in_hand = {*self._held, *self._done, *(entry for entry, _ in self._returned)}
                    entries = await self._ask.run(OWN, self._keys, self._group, self._me, self._prefetch + AT_ONCE)
                    if await self._take([entry for entry in entries if entry[0].decode() not in in_hand]):
                        return
                if now >= tick_at:
                    most = self._prefetch - len(self._held) if now >= claim_at else 0
                    ask = (self._group, self._me, self._lease_ms, self._tries, max(most, 0), len(self._held))
                    waiting, entries = await self._ask.run(CLAIM, self._keys, *ask)
                    tick_at = trio.current_time() + (0 if entries else self._tick)
                    if await self._take(entries):
                        return
                is_last = any(delivery.times >= self._tries > 1 for delivery in self._held.values())
                free = 0 if is_last or (waiting and self._held) else self._prefetch - len(self._held)
                if free <= 0:
                    self._room = trio.Event()
                    with trio.move_on_after(max(tick_at - trio.current_time(), 0)):
                        await self._room.wait()
                    if waiting and not self._held:
                        tick_at = 0.0
                elif await self._take(await self._read_some(min(free, AT_ONCE))):
                    return
            except Lost:
                await self._ask.pause()
                await self._read.pause()
            except Refused as exc:
                if not (exc.is_full or exc.is_unknown):
                    await self._break(f"{self._what} cannot be read: {exc}")
                await trio.sleep(self._tick / 4)
                if exc.is_unknown:
                    await self.join()
            if max(self._ask.answered_at, self._read.answered_at) - heard_at > self._lease / 2:
                claim_at = trio.current_time() + self._lease

    async def _read_some(self, most: int) -> list[Any]:
        block = max(int(self._tick * 1000), 1)
        args = ("GROUP", self._group, self._me, "COUNT", most, "BLOCK", block, "STREAMS", self._keys.stream, ">")
        answer = await self._read.call("XREADGROUP", *args, within=self._tick + 5)
        if not answer:
            return []
        [entries] = answer.values() if isinstance(answer, dict) else [answer[0][1]]
        return [[entry, *fields[:2], 1] for entry, fields in entries if fields]

    async def _take(self, entries: Sequence[Any]) -> bool:
        """Deliver entries; tell whether the end was among them, or nobody wants more."""
        deliveries = []
        is_end = False
        for entry, kind, raw, times in entries:
            name = entry.decode()
            if kind == b"end":
                await self._insist_through_full(END, self._group, name)
                is_end = True
            else:
                delivery = Delivery[Any](self, name, raw, int(times))
                self._held[name] = delivery
                deliveries.append(delivery)
        try:
            self._output.send_many_nowait(deliveries)
        except trio.BrokenResourceError:
            return True  # who received has closed that end: what is held is given back in the end
        if is_end:
            self._output.close()
        return is_end

    async def _insist_through_full(self, script: Any, *args: str | int) -> Any:
        while True:
            try:
                return await self._ask.insist(script, self._keys, *args)
            except Refused as exc:
                if not exc.is_full:
                    await self._break(f"{self._what} cannot be read: {exc}")
                await trio.sleep(self._tick / 4)

    async def _break(self, reason: str) -> NoReturn:
        """Fail; once, although several tasks meet the same reason."""
        if self._is_broken:
            await trio.sleep_forever()
        self._is_broken = True
        raise trio.BrokenResourceError(reason) from None

    async def settle_all(self) -> None:
        """Tell the server what was settled, for ever."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await self.flush()

    async def flush(self, within: float = PATIENCE) -> None:
        """Tell the server all that was settled, many at once."""
        while self._done or self._returned:
            try:
                if self._done:
                    done = self._done[:AT_ONCE]
                    with trio.CancelScope(shield=True):
                        await self._ask.run(ACK, self._keys, self._group, *done, within=within)
                    del self._done[: len(done)]
                if self._returned:
                    returned = self._returned[:AT_ONCE]
                    pairs: list[str | int] = [word for pair in returned for word in pair]
                    with trio.CancelScope(shield=True):
                        await self._ask.run(RETURN, self._keys, self._group, self._me, *pairs, within=within)
                    del self._returned[: len(returned)]
            except Lost:
                await self._ask.pause()
            except Refused as exc:
                if not exc.is_full:
                    await self._break(f"{self._what} cannot be acknowledged: {exc}")
                await trio.sleep(self._tick / 4)

    async def renew(self) -> None:
        """Say again and again what is in hand."""
        while True:
            await trio.sleep(self._lease / 3)
            held = list(self._held.values())
            for start in range(0, max(len(held), 1), AT_ONCE):
                part = held[start : start + AT_ONCE]
                ids = [delivery.id for delivery in part]
                try:
                    own = (self._group, self._me, self._token, self._lease_ms)
                    lost = await self._ask.run(RENEW, self._keys, *own, *ids)
                except (Lost, Refused):
                    break  # the next turn is soon enough
                if lost is None:
                    await self._break(f"another receiver called {self._me!r} reads {self._what} by now")
                gone = {entry.decode() for entry in lost}
                for delivery in part:
                    if delivery.id in gone:
                        self._lose(delivery)

    async def has_lost(self, delivery: Delivery[Any]) -> bool:
        """Ask whether another receiver has it by now."""
        own = (self._group, self._me, self._token, self._lease_ms)
        if await self._ask.insist(RENEW, self._keys, *own, delivery.id) != []:
            self._lose(delivery)
        return delivery.lost

    def _lose(self, delivery: Delivery[Any]) -> None:
        delivery.lost = True
        if self._held.get(delivery.id) is delivery:
            del self._held[delivery.id]  # it takes no room from others
            self._room.set()

    async def leave(self) -> None:
        """Say what is settled, and give back the rest."""
        for delivery in list(self._held.values()):
            delivery.give_back(tried=False)
        if self._is_broken:
            return
        with trio.move_on_after(LEAVING, shield=True):
            try:
                await self.flush(LEAVING)
                await self._ask.run(LEAVE, self._keys, self._group, self._me, self._token)
            except (Lost, Refused, trio.BrokenResourceError):
                pass  # its lease runs out, and others take over


@asynccontextmanager
async def receiver_of(
    address: Address,
    name: str,
    group: str,
    *,
    decode: Callable[[bytes], Any],
    receiver: str | None,
    prefetch: int,
    lease: float,
    tries: float,
    patience: float,
) -> AsyncGenerator[ReceiveChannel[Delivery[Any]], None]:
    """Receive deliveries beside the block."""
    async with open_lines(address, 2, patience) as lines:
        await first_call(lines[0])
        me = _Receiver(name, lines, decode, group, receiver or own_name(), prefetch=prefetch, lease=lease, tries=tries)
        await me.join()
        try:
            async with open_crew() as crew:
                for work in (me.pump, me.settle_all, me.renew):
                    crew.start(work)
                yield me.deliveries
                crew.cancel()
        finally:
            me.deliveries.close()
            await me.leave()
