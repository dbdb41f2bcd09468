"""The sending end of a stream in Redis: each item is stored once, in order, and waits while there is no room.

Rule 1: items are numbered, and the server stores no number twice. So a call whose answer was lost is repeated.
Rule 2: a call to the server is never cancelled half way. Waiting for room, for a lost server or for a turn is.
Rule 3: if a sender gives up an item that may have been stored, its number is not used again.
Rule 4: a sender whose block fails stays registered: the stream must not end before its remaining items are sent.
Rule 5: items that several tasks send at once go in one call: see `send_queue`.
"""

from __future__ import annotations

import math
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, Generic, TypeVar

import trio

from trioflow._core.block import block
from trioflow._core.crew import Crew
from trioflow.redis.answers import Later, Lost, Refused
from trioflow.redis.client import Client, open_clients
from trioflow.redis.entry import Entry, options_of
from trioflow.redis.options import CAPACITY, IDEMPOTENCY_WINDOW, SenderOptions, to_json, to_milliseconds, unique_name
from trioflow.redis.scripts import Script
from trioflow.redis.send_queue import Sending, SendQueue
from trioflow.redis.sender_scripts import ADD, CLOSE, OPEN, RENEW_SENDER

SendT = TypeVar("SendT", contravariant=True)

ROOM_TIMEOUT: Final = 1.0  # seconds after which a waiting sender checks for room itself, since a wake-up can be lost


class Ended(trio.BrokenResourceError):
    """All senders of a stream had closed before this one sent."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream} has ended: all its senders had closed")


class RedisSender(trio.abc.SendChannel[SendT], Generic[SendT]):
    """The sending end of a stream in Redis. Made by `open_sender`."""

    def __init__(self, options: SenderOptions, clients: Sequence[Client]) -> None:
        self.producer = options.producer or unique_name()
        self._may_return = int(options.producer is not None)
        self._stream = f"the stream {options.name!r}"
        self._client, self._blocking_client = clients
        self._encode = options.encode
        self._capacity = options.capacity
        self._identity = (self.producer, secrets.token_hex(8), math.ceil((options.lease or 0) * 1000))
        self._window = to_milliseconds("idempotency_window", options.idempotency_window)
        self._number = 0  # of the last item that is stored or may be
        self._queue = SendQueue()
        self._is_closed = False

    @property
    def stored(self) -> int:
        """How many items have been stored under this name, including those of earlier senders.

        A sender that comes back continues after them. An item that was given up but may have been stored counts.
        """
        return self._number

    async def send(
        self,
        value: SendT,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        delay: float = 0.0,
        ttl: float = math.inf,
        idempotency_key: str | None = None,
    ) -> None:
        """Store one item, waiting while `capacity` entries are unread or unacknowledged.

        If it is cancelled, the item is not stored. While the server is out of reach, however, it may have been, and
        cancelling takes up to five seconds.

        Args:
            value: The item.
            headers: Metadata to send with it, by name, which the receiver reads as `Delivery.headers`.
            key: Items with the same key are delivered one at a time, in the order in which they were stored.
            delay: The seconds after storing in which it is not delivered.
            ttl: The seconds after storing in which it may be delivered; then it is deleted. `math.inf` for no limit.
            idempotency_key: If any sender has stored an item with this key within the last `idempotency_window`, this
                one is not stored.

        Raises:
            TypeError, ValueError: an option has the wrong type, or is out of range.
            StreamLost: the server has lost entries of the stream.
            trio.BrokenResourceError: the stream has ended, another sender has this one's name, the server refuses the
                call or begins to evict entries, or it has been out of reach for longer than `patience`.
            trio.ClosedResourceError: this sender was closed.
        """
        item = self._encode(value)
        if headers is not None or key is not None or delay != 0 or ttl != math.inf or idempotency_key is not None:
            item = Entry(item, headers=headers, key=key, delay=delay, ttl=ttl, idempotency_key=idempotency_key)
        await self._store([item])

    async def send_many(self, values: Iterable[SendT]) -> None:
        """Store all of `values`, in order, as room allows. If it is cancelled or fails, the first few may be stored.

        To give them options, let `encode` return an `Entry`.
        """
        await self._store([self._encode(value) for value in values])

    async def _store(self, items: Sequence[bytes | str]) -> None:
        if not items:
            await trio.lowlevel.checkpoint()
            self._check_open()
            return
        sending = Sending(items)
        try:
            await self._queue.turn(sending)
            while not sending.is_stored:
                await trio.lowlevel.checkpoint_if_cancelled()
                self._check_open()
                await self._make_call()
        finally:
            self._number += self._queue.leave(sending)  # rule 3

    async def _make_call(self) -> None:
        """Make one call as the head of the queue; then wait, if it must be repeated or there was no room."""
        call = self._queue.begin_call()
        number, window, options = self._number + 1, self._window, options_of(call.items)
        answer, pause = 0, 0.0
        stored: int | None = None
        try:
            args = (*self._identity, self._capacity, number, window, options, *call.items)
            answer = int(await self._client.run(ADD, *args, shield=True))
            stored = max(answer, 0)
            self._number += stored
        except (Later, Refused, trio.BrokenResourceError) as exc:
            call.is_in_doubt = call.is_in_doubt or isinstance(exc, (Lost, trio.BrokenResourceError))
            if isinstance(exc, Refused):
                raise trio.BrokenResourceError(f"{self._stream} cannot be sent to: {exc}") from None
            if not isinstance(exc, Later):
                raise
            pause = exc.pause
        finally:
            self._queue.end_call(call, stored)
        if stored is None:
            await trio.sleep(pause)
        elif answer == -1:
            raise Ended(self._stream)
        elif answer == -2:
            raise self._replaced()
        elif stored == 0:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        client = self._blocking_client
        try:
            await client.call("BLPOP", client.keys.room, str(ROOM_TIMEOUT), within=ROOM_TIMEOUT + 5)
        except Later as exc:
            await trio.sleep(exc.pause)
        except Refused as exc:
            raise trio.BrokenResourceError(f"{self._stream} cannot be waited for: {exc}") from None

    def _replaced(self) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(f"a newer sender to {self._stream} called {self.producer!r} replaced this one")

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this sender is closed")

    async def aclose(self) -> None:
        """Close this sender for good: the stream ends when all senders have closed and every entry is acknowledged.

        Harmless when repeated.

        Raises:
            trio.BrokenResourceError: another sender has this one's name, or the server is out of reach.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        closing = Sending()
        try:
            await self._queue.turn(closing)
            self._is_closed = True
            if not await self._run_until_done(
                CLOSE, f"the sender {self.producer!r} cannot be closed", self._may_return
            ):
                raise self._replaced()
        finally:
            self._number += self._queue.leave(closing)

    async def _open(self) -> None:
        stored = await self._run_until_done(OPEN, f"{self._stream} cannot be sent to")
        if stored == -1:
            raise Ended(self._stream)
        self._number = stored

    async def _run_until_done(self, script: Script, complaint: str, *args: int) -> int:
        try:
            answer: int = await self._client.run_until_done(script, *self._identity, *args)
        except Refused as exc:
            raise trio.BrokenResourceError(f"{complaint}: {exc}") from None
        return answer

    async def _renew(self, lease: float) -> None:
        """Renew the lease of this sender until cancelled."""
        while True:
            await trio.sleep(lease / 3)
            with suppress(Later, Refused):  # the next round is soon enough
                await self._client.run(RENEW_SENDER, *self._identity)


@block
async def sender_of(options: SenderOptions) -> AsyncGenerator[RedisSender[Any], None]:
    """Register a sender beside a block, and close it if the block ends without an exception."""
    async with open_clients(options, 2) as clients, Crew() as crew:
        sender = RedisSender[Any](options, clients)
        await sender._open()
        if options.lease is not None:
            crew.start(sender._renew, options.lease)
        yield sender
        await sender.aclose()
        crew.cancel()


def open_sender(
    url: str,
    name: str,
    *,
    capacity: int = CAPACITY,
    producer: str | None = None,
    encode: Callable[[Any], bytes | str] = to_json,
    idempotency_window: float = IDEMPOTENCY_WINDOW,
    patience: float = math.inf,
    ssl_context: ssl.SSLContext | None = None,
    wait_replicas: int = 0,
) -> AbstractAsyncContextManager[RedisSender[Any]]:
    """Send to the stream `name` beside an `async with` block.

    If the block ends without an exception, this sender is closed. The stream ends when every sender is closed and every
    entry is acknowledged. A block that raises, or a process that dies in it, does not close its sender, because its
    remaining items were not sent. A new sender with the same `producer` name continues where that one stopped, and then
    closes. If senders come and go, hold one open beside them, so that the stream does not end in between.

    Args:
        url: The server: `redis://[user:password@]host[:port][/db]`, `rediss://` with TLS, `unix:///path[?db=n]`, or
            `redis+sentinel://host[:port],host[:port]/service[/db]` for the master that these sentinels name.
        name: The stream. Its keys begin with the name in braces.
        capacity: How many entries may be unread or unacknowledged before this sender waits.
        producer: The name by which this sender is recognised when it comes back. If two senders have the same name, the
            newer one continues and the older one fails.
        encode: Encodes an item as bytes, a str, or an `Entry` with options; the default writes JSON.
        idempotency_window: The seconds for which the server remembers an `idempotency_key`.
        patience: The seconds to wait for a lost server, each time it is lost; `math.inf` for no limit.
        ssl_context: For `rediss://`: which certificates to trust, and the client certificate to present if the server
            asks for one; None for `ssl.create_default_context()`.
        wait_replicas: How many replicas must have an item before `send` returns, so that a failover to one of them does
            not lose it. If fewer confirm within a second, the item is sent again, and still stored once. That does not
            count towards `patience`, and neither does a server that cannot write at the moment.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is out of range.
        OSError: on entering the block, there is no server at `url`, or it refuses the connection.
        StreamLost: the server has lost entries of the stream.
        trio.BrokenResourceError: the stream has ended, or another sender of this name has replaced this one.
    """
    return sender_of(
        SenderOptions(
            *(url, name, patience, ssl_context, wait_replicas),
            capacity=capacity,
            producer=producer,
            encode=encode,
            idempotency_window=idempotency_window,
        )
    )
