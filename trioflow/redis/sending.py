"""The sending end of a stream in Redis: stored once each, in order, and no more of them than there is room for.

Rule 1: an item has a number, and the server stores none twice: a call that was in doubt is repeated.
Rule 2: one call to the server is never cancelled half way; waiting for room, or for the server to come back, is.
Rule 3: the number of an item that is in doubt when it is given up is not used again.
Rule 4: a sender whose block fails stays open in the server: what it did not send is not the end.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

import trio

from trioflow._core.crew import open_crew
from trioflow.redis.client import Address, Line, Lost, Refused, open_lines
from trioflow.redis.scripts import ADD, CLOSE, KEEP, OPEN, Keys

T = TypeVar("T")
SendT = TypeVar("SendT", contravariant=True)

AT_ONCE: Final = 500  # items in one call
AT_ONCE_BYTES: Final = 1 << 20  # and bytes, as far as items allow
WAITING: Final = 1.0  # seconds after which a sender looks for room itself
CLOSING: Final = 5.0  # seconds for the last word of a sender whose block has ended well


def own_name() -> str:
    """Make a name that nobody else has, and that tells whose it is."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Ended(trio.BrokenResourceError):
    """All senders of a stream had closed before this one sent."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has ended: all its senders had closed")


class RedisSender(trio.abc.SendChannel[SendT], Generic[SendT]):
    """The sending end of a stream in Redis. Made by `open_sender`."""

    def __init__(
        self,
        name: str,
        lines: Sequence[Line],
        encode: Callable[[Any], bytes | str],
        capacity: int,
        producer: str,
        lease: float,
    ) -> None:
        self.producer = producer
        self._keys = Keys(name)
        self._what = f"the stream {name!r}"
        self._ask, self._room = lines
        self._encode = encode
        self._capacity = capacity
        self._token = secrets.token_hex(8)
        self._lease = math.ceil(lease * 1000) if lease < math.inf else 0
        self._number = 0  # of the last item that is stored or in doubt
        self._turn = trio.StrictFIFOLock()
        self._is_closed = False

    @property
    def stored(self) -> int:
        """How many items have been stored under this name, by earlier senders too: who comes back goes on behind them.

        An item that was given up in doubt counts.
        """
        return self._number

    async def send(self, value: SendT) -> None:
        """Store one item, waiting while `capacity` are unread or unacknowledged.

        Cancelled, it is not stored; where the server was out of reach, that is in doubt.

        Raises:
            trio.BrokenResourceError: the stream has ended; another sender has this one's name; or the server has been
                out of reach for longer than `patience`.
            trio.ClosedResourceError: this end was closed.
        """
        await self.send_many([value])

    async def send_many(self, values: Iterable[SendT]) -> None:
        """Store all of `values`, in order, as room allows. Cancelled or failing, it has stored the first few or none."""
        items = [self._encode(value) for value in values]
        start = 0
        await trio.lowlevel.checkpoint_if_cancelled()
        async with self._turn:
            if not items:
                self._check()
            while start < len(items):
                self._check()
                stored = await self._add(_part(items, start))
                start += stored
                if start < len(items) and stored == 0:
                    await self._wait_for_room()

    async def _add(self, items: Sequence[bytes | str]) -> int:
        args = (self.producer, self._token, self._lease, self._capacity, self._number + 1, *items)
        stored = 0
        while True:
            try:
                with trio.CancelScope(shield=True):
                    stored = await self._ask.run(ADD, self._keys, *args)
                break
            except Refused as exc:
                if not exc.is_full:
                    raise trio.BrokenResourceError(f"{self._what} cannot be sent to: {exc}") from None
                await trio.sleep(WAITING / 4)  # memory is short: that is no room
                return 0
            except (Lost, trio.BrokenResourceError) as exc:
                try:
                    if not isinstance(exc, Lost):
                        raise
                    await self._ask.pause()
                except BaseException:
                    self._number += len(items)  # in doubt
                    raise
        if stored == -1:
            raise Ended(self._what)
        if stored == -2:
            raise trio.BrokenResourceError(f"another sender to {self._what} is called {self.producer!r}, and goes on")
        self._number += stored
        return stored

    async def _wait_for_room(self) -> None:
        try:
            await self._room.call("BLPOP", self._keys.room, str(WAITING), within=WAITING + 5)
        except (Lost, Refused):
            await self._room.pause()

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this sender is closed")

    async def aclose(self) -> None:
        """Close this end for good: the stream ends when all its senders have, and all is acknowledged.

        Harmless when repeated.

        Raises:
            trio.BrokenResourceError: another sender has this one's name, or the server is out of reach.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        async with self._turn:
            self._is_closed = True
            if not await _settled(self._ask, self._keys, self.producer, self._token):
                raise trio.BrokenResourceError(f"another sender to {self._what} is called {self.producer!r}")

    async def _open(self) -> None:
        stored = await self._ask.insist(OPEN, self._keys, self.producer, self._token, self._lease)
        if stored == -1:
            raise Ended(self._what)
        self._number = stored

    async def _keep(self) -> None:
        """Say again and again that this sender is alive, where it counts as gone otherwise."""
        while True:
            await trio.sleep(self._lease / 3000)
            try:
                await self._ask.run(KEEP, self._keys, self.producer, self._token, self._lease)
            except (Lost, Refused):
                await self._ask.pause()


async def _settled(line: Line, keys: Keys, producer: str, token: str) -> bool:
    while True:
        try:
            return bool(await line.insist(CLOSE, keys, producer, token))
        except Refused as exc:
            if not exc.is_full:
                raise trio.BrokenResourceError(f"the sender {producer!r} cannot be closed: {exc}") from None
            await trio.sleep(WAITING / 4)


def _part(items: Sequence[bytes | str], start: int) -> Sequence[bytes | str]:
    """Give what goes into one call, one item at least."""
    size = 0
    for i in range(start, min(start + AT_ONCE, len(items))):
        size += len(items[i])
        if size > AT_ONCE_BYTES:
            return items[start : max(i, start + 1)]
    return items[start : start + AT_ONCE]


@asynccontextmanager
async def sender_to(
    address: Address,
    name: str,
    *,
    encode: Callable[[Any], bytes | str],
    capacity: int,
    producer: str | None,
    patience: float,
    lease: float = math.inf,
) -> AsyncGenerator[RedisSender[Any], None]:
    """Register a sender beside the block; leaving it well closes that. One with a `lease` counts as gone when not heard of."""
    async with open_lines(address, 2, patience) as lines, open_crew() as crew:
        await first_call(lines[0])
        send = RedisSender[Any](name, lines, encode, capacity, producer or own_name(), lease)
        try:
            await send._open()
        except Refused as exc:
            raise trio.BrokenResourceError(f"{send._what} cannot be sent to: {exc}") from None
        if lease < math.inf:
            crew.start(send._keep)
        yield send
        await send.aclose()
        crew.cancel()


async def first_call(line: Line) -> None:
    """See that there is a server, at once, and that it keeps what it is given: a wrong address is no reason to wait.

    Raises:
        OSError: there is none, or it refuses us, or it throws away what it was given when it is full.
    """
    for is_last in (False, False, True):
        try:
            told = dict(
                pair.split(b":", 1) for pair in bytes(await line.call("INFO", "memory")).split() if b":" in pair
            )
        except (Lost, trio.BrokenResourceError) as exc:
            if is_last:
                raise OSError(f"no Redis server at {line.address}: {exc}") from None
            await line.pause()
        except Refused as exc:
            raise OSError(f"the Redis server at {line.address} refuses: {exc}") from None
        else:
            policy = told.get(b"maxmemory_policy", b"").decode()
            if told.get(b"maxmemory") != b"0" and policy.startswith("allkeys"):
                raise OSError(
                    f"the Redis server at {line.address} throws away what it was given when it is full: "
                    f"its maxmemory-policy must be noeviction, not {policy}"
                )
            return
