"""The receiving end of a stream in Redis: reads entries and claims those of others. `hand` has what becomes of them.

Rule 1: cancelling a `receive` cancels no call to the server. A task of its own reads ahead, `prefetch` entries at most,
    and each entry it has read is delivered or given back.
Rule 2: an entry whose lease another receiver let run out is claimed, and so is one that was given back. While there are
    such entries, every second delivery is one of them.
Rule 3: after the server was silent, only entries that were given back are claimed for one lease: every receiver needs
    time to renew its own.
Rule 4: a receiver that leaves gives back the entries not worked on, and that does not count as a try.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio

from trioflow._core.block import block
from trioflow._core.buffer import Buffer
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.crew import Crew
from trioflow.redis.answers import Later, Lost, NoGroup, Refused
from trioflow.redis.client import Client, open_clients
from trioflow.redis.entry import ITEM_ALONE, Entry
from trioflow.redis.hand import ENTRIES_PER_CALL, LEAVE_TIMEOUT, Delivery, Hand
from trioflow.redis.membership import Membership
from trioflow.redis.options import DEAD_LETTERS, LEASE, MAX_RETRY_DELAY, TRIES, ReceiverOptions
from trioflow.redis.receiver_scripts import CLAIM, HELD, LEAVE, PASS_END

LONGEST_TICK: Final = 0.5  # seconds between two looks for entries to claim; a blocking read lasts as long


class _Receiver:
    """The tasks that read entries and settle them."""

    def __init__(self, options: ReceiverOptions, clients: Sequence[Client]) -> None:
        self._client, self._blocking_client = clients
        self.member = Membership(options, self._client)
        self.hand = Hand(options, self.member)
        self._prefetch = options.prefetch
        self._lease = options.lease
        self._tries = int(min(options.tries, 1 << 53))  # the largest number that Lua holds exactly
        self._dead_letters = int(min(options.dead_letters, 1 << 53))
        self._tick = min(options.lease / 3, LONGEST_TICK)
        self._look_at = 0.0  # when to look for entries to claim
        self._look_after = "-"  # the entry where the last look stopped; those after it are due, too
        self._claim_from = 0.0  # when leases that have run out begin to count (rule 3)
        self._turn_of_new = 0  # how many new entries to read before the next look
        self._looking = trio.Lock()
        self._is_over = False  # the end was delivered, or the reader has closed its end
        self._recovered = -1  # how many connections had been made when lost answers were last looked for
        buffer: Buffer[Any] = Buffer(math.inf, "wait")
        self._output: SendChannel[Delivery[Any]] = SendChannel(buffer)
        self.deliveries: ReceiveChannel[Delivery[Any]] = ReceiveChannel(buffer)

    async def read(self) -> None:
        """Deliver entries until the stream ends, or until the reader has closed its end."""
        while not (self._is_over or self._output._reader_has_left):
            answered_at = self._answered_at()
            try:
                if self._connections() != self._recovered:
                    await self._recover()
                elif (room := self.hand.room()) <= 0:
                    await self._wait_for_room()
                elif self._until_look() <= 0 and not self._turn_of_new:
                    await self._claim((room + 1) // 2)
                else:
                    await self._read_new(min(room, self._turn_of_new or ENTRIES_PER_CALL))
            except NoGroup:
                await self.hand.rejoin()
            except Later as exc:
                if not isinstance(exc, Lost):
                    self._claim_from = trio.current_time() + self._lease  # others could not renew their leases, either
                await trio.sleep(exc.pause)
            except Refused as exc:
                await self.member.fail(f"cannot be read: {exc}")
            if self._answered_at() - answered_at > self._lease / 2:
                self._claim_from = trio.current_time() + self._lease

    def _answered_at(self) -> float:
        return max(self._client.answered_at, self._blocking_client.answered_at)

    def _connections(self) -> int:
        return self._client.connections + self._blocking_client.connections

    def _until_look(self) -> float:
        """Return the seconds until the next look for entries to claim."""
        return self._look_at - trio.current_time()

    async def _wait_for_room(self) -> None:
        await self.hand.wait_for_room(self._tick)  # no longer, to check that the server answers
        if self.hand.alone_waits and not self.hand.count():
            self._look_at, self._look_after, self._turn_of_new = 0.0, "-", 0

    async def _recover(self) -> None:
        """Deliver entries that the server has given to this receiver in an answer that never arrived."""
        async with self._looking:
            connections = self._connections()
            known = self.hand.known()  # before the call: entries settled during it may still be in its answer
            entries = await self.member.run(HELD, self._tries, self._prefetch + ENTRIES_PER_CALL)
            self._recovered = connections
            await self._deliver([entry for entry in entries if entry[0].decode() not in known])

    async def _claim(self, most: int) -> None:
        """Deliver entries that other receivers have given back, or whose leases they let run out.

        A look continues after the entry where the last one stopped, so an entry that fails again and again does not
        keep the others waiting. While entries are due, as many new ones are read as were claimed.
        """
        most = min(most, ENTRIES_PER_CALL)
        self.hand.expect(most)
        try:
            async with self._looking:
                idle = math.ceil(self._lease * 1000) if trio.current_time() >= self._claim_from else ""
                held = self.hand.count() - most
                waiting, after, entries = await self.member.run(
                    *(CLAIM, self._tries, most, held, self._look_after, self._dead_letters, idle)
                )
                self.hand.alone_waits = bool(waiting)
                self._look_after = after.decode()
                self._turn_of_new = len(entries)
                if self._look_after == "-":
                    self._look_at = trio.current_time() + self._tick
                await self._deliver(entries)
        finally:
            self.hand.expect(-most)

    async def _read_new(self, most: int) -> None:
        self._turn_of_new = 0
        client = self._blocking_client
        block = int(min(self._until_look(), self._tick) * 1000)
        wait = ("BLOCK", block) if block > 0 else ()  # 0 would mean no limit
        args = ("GROUP", self.member.group, self.member.name, "COUNT", most, *wait, "STREAMS", client.keys.stream, ">")
        self.hand.expect(most)
        try:
            answer = await client.call("XREADGROUP", *args, within=self._tick + 5)
            if answer:
                [entries] = answer.values() if isinstance(answer, dict) else [answer[0][1]]  # RESP 3, or 2
                await self._deliver(await self._for_now([[name, fields, 1, 0] for name, fields in entries if fields]))
        finally:
            self.hand.expect(-most)

    async def _for_now(self, entries: list[Any]) -> list[Any]:
        """Return the new entries that may be delivered now: the server parks or deletes the others."""
        asked = {entry[0] for entry in entries if len(entry[1]) > ITEM_ALONE and entry[1][2] != b"headers"}
        if not asked:
            return entries
        recovered, self._recovered = self._recovered, -1  # if the answer is lost, `_recover` asks again
        kept = {entry[0] for entry in await self.member.run(HELD, self._tries, len(asked), *asked)}
        self._recovered = recovered
        return [entry for entry in entries if entry[0] not in asked or entry[0] in kept]

    async def _deliver(self, entries: Sequence[Any]) -> None:
        deliveries = []
        for entry, fields, times, alone in entries:
            name = entry.decode()
            if fields[0] == b"end":
                await self.member.run_until_done(PASS_END, name)
                self._is_over = True
            else:
                deliveries.append(self.hand.add(name, fields, int(times), alone=bool(alone)))
        try:
            self._output.send_many_nowait(deliveries)
        except trio.BrokenResourceError:
            for delivery in deliveries:  # the reader may be busy with earlier entries for long
                delivery.give_back(tried=False)
            self._is_over = True
        if self._is_over:
            self._output.close()

    async def settle(self) -> None:
        """Send what was settled to the server, until cancelled."""
        while True:
            await self.hand.settle_next()
            if self.hand.woken and not self._output._reader_has_left:
                await self._claim_woken()

    async def _claim_woken(self) -> None:
        """Claim entries at once that waited for acknowledgements here: the other task may be in a long call."""
        most, self.hand.woken = min(self.hand.woken, self.hand.room()), 0
        try:
            if most > 0:
                await self._claim(most)
        except (Later, Refused):
            self._look_at = 0.0  # the other task tries again, or raises

    async def leave(self) -> None:
        """Leave the group: give back the entries in hand, and free this receiver's name."""
        self.deliveries.close()
        self._output.close()
        self.hand.give_up()
        if self.member.is_broken:
            return
        with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
            try:
                await self.hand.flush(LEAVE_TIMEOUT)
                await self.member.run(LEAVE)
            except (Later, Refused, trio.BrokenResourceError, trio.BusyResourceError, ValueError):
                pass  # others claim the entries when their lease has run out


@block
async def receiver_of(options: ReceiverOptions) -> AsyncGenerator[ReceiveChannel[Delivery[Any]], None]:
    """Receive deliveries beside a block."""
    async with open_clients(options, 2) as clients:
        receiver = _Receiver(options, clients)
        try:
            await receiver.member.join()
            async with Crew() as crew:
                for task in (receiver.read, receiver.settle, receiver.hand.renew):
                    crew.start(task)
                yield receiver.deliveries
                crew.cancel()
        finally:
            await receiver.leave()


def open_receiver(
    url: str,
    name: str,
    *,
    group: str,
    receiver: str | None = None,
    prefetch: int = 1,
    lease: float = LEASE,
    tries: float = TRIES,
    dead_letters: float = DEAD_LETTERS,
    retry_delay: float = 0.0,
    max_retry_delay: float = MAX_RETRY_DELAY,
    decode: Callable[[Entry], Any] = json.loads,
    patience: float = math.inf,
    ssl_context: ssl.SSLContext | None = None,
) -> AbstractAsyncContextManager[ReceiveChannel[Delivery[Any]]]:
    """Receive deliveries from the stream `name` beside an `async with` block, sharing the work with the whole `group`.

    `async with delivery:` acknowledges it if that block succeeds, and gives it back otherwise. Receiving does not wait
    for a call to the server and can be cancelled at any time. Leaving the outer block gives back entries not worked on.

    Args:
        url: The server, as for `open_sender`.
        name: The stream.
        group: All receivers that share the work name the same group. A stream has one group, because acknowledged
            entries are deleted.
        receiver: A name for this receiver; no two live receivers can have the same one. The default is a unique name.
        prefetch: How many unacknowledged deliveries to hold at once; 1 shares slow work most evenly.
        lease: The seconds without a sign of life from this process after which others take over its entries. A sign is
            sent three times as often, as long as Trio's event loop runs.
        tries: How often an entry is delivered before it becomes a dead letter; `math.inf` for any number.
        dead_letters: How many dead letters are kept; beyond that each new one drops the oldest; `math.inf` for all.
        retry_delay: The seconds in which an entry is not delivered again after its first failed try; 0 for none. It
            doubles with each try, with jitter of up to half, so that entries are not retried in lockstep.
        max_retry_delay: The longest retry delay, in seconds.
        decode: Decodes an item from its bytes, an `Entry`, which also has `headers` and `key`; the default reads JSON.
        patience: As for `open_sender`.
        ssl_context: As for `open_sender`.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is out of range; another group reads the stream.
        OSError: on entering the block, there is no server at `url`, or it refuses the connection.
        StreamLost: the server has lost entries of the stream.
        trio.BusyResourceError: a live receiver has this name.
        trio.BrokenResourceError: the server refuses a call, evicts entries, or stays unreachable beyond `patience`.
    """
    options = ReceiverOptions(
        *(url, name, patience, ssl_context),
        group=group,
        receiver=receiver,
        prefetch=prefetch,
        lease=lease,
        tries=tries,
        dead_letters=dead_letters,
        retry_delay=retry_delay,
        max_retry_delay=max_retry_delay,
        decode=decode,
    )
    return receiver_of(options)
