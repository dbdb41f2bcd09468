"""A channel between machines: streams of Redis (or Valkey), bounded, shared by many, and survived by their entries.

Rule 1: what was sent is stored once, and delivered at least once: whoever works on entries may see one again.
Rule 2: senders wait while `capacity` entries are unread or unacknowledged, whoever has sent or holds them.
Rule 3: a stream ends when every sender has closed and every entry is acknowledged; for good.
Rule 4: in a chain from `readable` to `writable` an entry is acknowledged when all that comes of it is stored.

`docs/reference/redis.md` tells what happens at which fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, NamedTuple, TypeVar, overload

import trio

from trioflow._channel import ReceiveChannel, SendChannel
from trioflow._checks import check_count, check_function, check_limit, check_positive
from trioflow._engine import Stage
from trioflow._operators import differing
from trioflow._redis_carrying import Acknowledge, Carried, CarryingReadable, Receipt, StoringWritable, acknowledge_each
from trioflow._redis_receiving import Delivery as Delivery
from trioflow._redis_receiving import receiver_of
from trioflow._redis_scripts import STATUS, Keys
from trioflow._redis_sending import RedisSender as RedisSender
from trioflow._redis_sending import first_call, sender_to
from trioflow._redis_wire import Address, open_lines
from trioflow._streams import Readable, Transform, Writable, label

T = TypeVar("T")

CAPACITY: Final = 1000  # entries
PREFETCH: Final = 16  # entries in hand
LEASE: Final = 30.0  # seconds
TRIES: Final = 5

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(item: Any) -> bytes:
    """Encode an item as streams do where nothing else is said; NaN and the like are refused."""
    return _encoder.encode(item).encode()


class Status(NamedTuple):
    """What is in a stream: entries that are unacknowledged, of these delivered, dead letters; senders; and its end."""

    entries: int
    delivered: int
    dead: int
    senders: int
    is_closed: bool
    is_ended: bool


class DeadLetter(NamedTuple):
    """An entry that was delivered too often: its item, encoded, its id, its tries, and who had it last."""

    raw: bytes
    id: str
    tries: int
    receiver: str


def open_sender(
    url: str,
    name: str,
    *,
    capacity: int = CAPACITY,
    producer: str | None = None,
    encode: Callable[[Any], bytes | str] = to_json,
    patience: float = math.inf,
) -> AbstractAsyncContextManager[RedisSender[Any]]:
    """Send to the stream `name` beside an `async with` block.

    Leaving the block well closes this sender; the stream ends when the last one has, and all is acknowledged. Leaving it
    by an exception, or dying in it, does not: what was not sent is not the end. A sender of the same `producer` name goes
    on where that one was, and then closes. Where senders come and go, hold one open beside them.

    Args:
        url: The server: `redis://[user:password@]host[:port][/db]`, `rediss://` with TLS, or `unix:///path`.
        name: The stream. Its keys begin with the name in braces.
        capacity: How many entries may be unread or unacknowledged before this sender waits.
        producer: A name for this sender, to be known by when it comes back; at any time one may have it, the newest.
        encode: Makes bytes or a str of an item; JSON unless told otherwise.
        patience: The seconds to wait for a server that was lost, again and again; `math.inf` for ever.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
        OSError: entering the block, there is no server at `url`, or it refuses us.
        trio.BrokenResourceError: the stream has ended, or another sender of this name is there.
    """
    check_function("encode", encode)
    return sender_to(
        Address.of(url),
        _checked_name("name", name),
        encode=encode,
        capacity=check_count("capacity", capacity, 1),
        producer=None if producer is None else _checked_name("producer", producer),
        patience=_checked_time("patience", patience),
    )


def open_receiver(
    url: str,
    name: str,
    *,
    group: str,
    receiver: str | None = None,
    prefetch: int = 1,
    lease: float = LEASE,
    tries: float = TRIES,
    decode: Callable[[bytes], Any] = json.loads,
    patience: float = math.inf,
) -> AbstractAsyncContextManager[ReceiveChannel[Delivery[Any]]]:
    """Receive deliveries from the stream `name` beside an `async with` block, sharing the work with all of its `group`.

    `async with delivery:` acknowledges it when that block ends well, and gives it back otherwise. Receiving costs no trip
    to the server and can be cancelled at any time. Leaving the outer block gives back what was not worked on.

    Args:
        url: The server, as for `open_sender`.
        name: The stream.
        group: Whom the work is shared with. A stream has one group: what it has acknowledged is deleted.
        receiver: A name for this receiver; two that are alive cannot share one. Unless told otherwise it is made up.
        prefetch: How many deliveries may be here and unacknowledged; 1 is fair where each takes long.
        lease: The seconds without word of this process after which others take over what it holds. Word is sent by
            itself, three times as often, while Trio's loop goes round.
        tries: How often an entry is delivered before it becomes a dead letter; `math.inf` for any number.
        decode: Makes an item of bytes; JSON unless told otherwise.
        patience: As for `open_sender`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range; another group reads the stream.
        OSError: entering the block, there is no server at `url`, or it refuses us.
        trio.BusyResourceError: a receiver of this name is alive.
        trio.BrokenResourceError: the server refuses, or was out of reach for longer than `patience`.
    """
    check_function("decode", decode)
    return receiver_of(
        Address.of(url),
        _checked_name("name", name),
        _checked_name("group", group),
        decode=decode,
        receiver=None if receiver is None else _checked_name("receiver", receiver),
        prefetch=check_count("prefetch", prefetch, 1),
        lease=_checked_lease(lease),
        tries=check_limit("tries", tries),
        patience=_checked_time("patience", patience),
    )


@overload
def readable(
    url: str,
    name: str,
    *,
    group: str,
    on_error: str = ...,
    receiver: str | None = ...,
    prefetch: int = ...,
    lease: float = ...,
    tries: float = ...,
    patience: float = ...,
) -> Readable[Any]: ...
@overload
def readable(
    url: str,
    name: str,
    *,
    group: str,
    on_error: str = ...,
    receiver: str | None = ...,
    prefetch: int = ...,
    lease: float = ...,
    tries: float = ...,
    decode: Callable[[bytes], T],
    patience: float = ...,
) -> Readable[T]: ...
def readable(
    url: str,
    name: str,
    *,
    group: str,
    on_error: str = "stop",
    receiver: str | None = None,
    prefetch: int = PREFETCH,
    lease: float = LEASE,
    tries: float = TRIES,
    decode: Callable[[bytes], Any] = json.loads,
    patience: float = math.inf,
) -> Readable[Any]:
    """Give the items of the stream `name`, sharing them with all who run this with the same `group`.

    An entry is acknowledged when all that comes of it is stored by the `writable` at the end, or has passed an
    `acknowledge()`; until then it is delivered again when this process dies. To be followed so far, an item may go
    through `map`, `filter`, `flat_map`, `tap`, `map_async`, `map_in_threads` and `map_in_processes`: what gives nothing
    for it is done with it. `batch(size, within=seconds)` is followed too, and `buffer`, `throttle`, `delay` and
    `timeout`. Other transforms are refused, and so are other sinks.

    Emits when: an entry comes.
    Waits when: `prefetch` entries are in the chain, unacknowledged.
    Ends when: every sender has closed and every entry is acknowledged, here and elsewhere.
    On cancel: what is unacknowledged is given back, and counts as never tried; what failed counts.
    Holds: `prefetch` entries.

    Args:
        url: The server, as for `open_sender`.
        name: The stream.
        group: Whom the work is shared with.
        on_error: What to do when a function fails for an item: `"stop"`, as ever; or `"return"`: its entry is given
            back, to be tried again later, and in the end to be a dead letter, and this goes on.
        receiver: As for `open_receiver`.
        prefetch: How many entries may be in the chain at once: as many as `map_async` is to work on, at least.
        lease: As for `open_receiver`.
        tries: As for `open_receiver`.
        decode: As for `open_receiver`.
        patience: As for `open_receiver`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
        OSError, trio.BusyResourceError, trio.BrokenResourceError: running it, as `open_receiver`.
    """
    if on_error not in ("stop", "return"):
        raise ValueError(f"on_error must be 'stop' or 'return', not {on_error!r}")

    def enter() -> AbstractAsyncContextManager[ReceiveChannel[Delivery[Any]]]:
        return open_receiver(
            url,
            name,
            group=group,
            receiver=receiver,
            prefetch=prefetch,
            lease=lease,
            tries=tries,
            decode=decode,
            patience=patience,
        )

    enter()  # checks the arguments now

    async def run(output: SendChannel[Any]) -> None:
        kept: set[Receipt] = set()  # they are found again by number, when an item has been to another process

        def carried(delivery: Delivery[Any]) -> Carried | None:
            def done() -> None:
                kept.discard(receipt)
                delivery.done()

            def failed() -> None:
                kept.discard(receipt)
                delivery.give_back()

            receipt = Receipt(done, failed)
            try:
                item = Carried(delivery.value, receipt)
            except Exception:
                receipt.fail()
                if on_error == "stop":
                    raise
                return None
            kept.add(receipt)
            return item

        async with enter() as deliveries:
            async for batch in deliveries.batches():
                await output.send_many([item for item in map(carried, batch) if item is not None])

    name_shown = label("redis.readable", name, group=group, **differing(on_error=(on_error, "stop")))
    return CarryingReadable.carried(Stage(name_shown, function=run), goes_on=on_error == "return")


def writable(
    url: str,
    name: str,
    *,
    capacity: int = CAPACITY,
    producer: str | None = None,
    encode: Callable[[Any], bytes | str] = to_json,
    patience: float = math.inf,
    lease: float = LEASE,
) -> Writable[Any, int]:
    """Store items in the stream `name`, and give their number.

    Behind a `readable` of this module it settles what was read there. Then it is a sender from its first item on, and
    when it dies it counts as gone after `lease` seconds: what it has not stored others are given. Otherwise it is one
    from the start, and when it dies the stream stays open for one of the same `producer` name.

    Waits when: `capacity` entries are unread or unacknowledged, or the server is out of reach.
    Ends when: the source ends; then it closes, and the stream ends when the last sender has.
    On cancel: what was not stored is lost, or given back where it came from; it does not close.
    Holds: one batch.

    Args:
        url: The server, as for `open_sender`.
        name: The stream.
        capacity: As for `open_sender`.
        producer: As for `open_sender`.
        encode: As for `open_sender`.
        patience: As for `open_sender`.
        lease: The seconds without word of this process after which it counts as gone, behind a `readable`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
        OSError, trio.BrokenResourceError: running it, as `open_sender`.
    """
    open_sender(url, name, capacity=capacity, producer=producer, encode=encode, patience=patience)
    expiry = _checked_lease(lease)

    def enter(expiry: float) -> AbstractAsyncContextManager[RedisSender[Any]]:
        return sender_to(
            Address.of(url),
            name,
            encode=encode,
            capacity=capacity,
            producer=producer,
            patience=patience,
            lease=expiry,
        )

    async def run(source: ReceiveChannel[Any]) -> int:
        count = 0
        async with enter(math.inf) as send:
            async for items in source.batches():
                await send.send_many(items)
                count += len(items)
        return count

    async def store(source: ReceiveChannel[Carried]) -> int:
        count = 0
        async with AsyncExitStack() as stack:
            send: RedisSender[Any] | None = None
            async for items in source.batches():
                if send is None:
                    send = await stack.enter_async_context(enter(expiry))
                await send.send_many([item.value for item in items])
                for item in items:
                    item.receipt.settle()
                count += len(items)
        if send is None:
            # All was done by others, who may have closed; if there was nothing at all, somebody must.
            try:
                async with enter(expiry):
                    pass
            except trio.BrokenResourceError:
                pass
        return count

    name_shown = label("redis.writable", name)
    made = StoringWritable.of(Stage(name_shown, function=run))
    assert isinstance(made, StoringWritable)
    made.storing = Stage(name_shown, function=store)
    return made


def acknowledge() -> Transform[Any, Any]:
    """Acknowledge what comes of a `readable` here: entries are done when the next stage has room for their items.

    Behind it any transform and any sink may follow. What is lost there by a failure or a cancellation is lost: to be
    safe, do what matters before, in a `map_async` for instance.

    Emits when: an item comes.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: the items not sent on are given back.
    Holds: one batch.

    Raises:
        TypeError: running it, it does not stand behind a `readable` of this module.
    """
    return Acknowledge.of(Stage(label("redis.acknowledge"), function=acknowledge_each))


async def status(url: str, name: str) -> Status:
    """Tell what is in the stream `name` now.

    Raises:
        OSError: there is no server at `url`, or it refuses us.
        trio.BrokenResourceError: it does not answer.
    """
    async with open_lines(Address.of(url), 1, 0.0) as [line]:
        await first_call(line)
        entries, delivered, dead, senders, closed, ended = await line.insist(STATUS, Keys(_checked_name("name", name)))
        return Status(entries, delivered, dead, senders, bool(closed), bool(ended))


async def dead_letters(url: str, name: str, *, limit: int = 1000) -> list[DeadLetter]:
    """Give the oldest dead letters of the stream `name`, at most `limit`. They stay where they are.

    Raises:
        OSError: there is no server at `url`, or it refuses us.
        trio.BrokenResourceError: it does not answer.
    """
    check_count("limit", limit, 1)
    keys = Keys(_checked_name("name", name))
    async with open_lines(Address.of(url), 1, 0.0) as [line]:
        await first_call(line)
        found = await line.call("XRANGE", keys.dead, "-", "+", "COUNT", limit)
    letters = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found)
    return [
        DeadLetter(letter[b"v"], letter[b"id"].decode(), int(letter[b"tries"]), letter[b"owner"].decode())
        for letter in letters
    ]


def _checked_name(what: str, name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {name!r}")
    if not name or "{" in name or "}" in name or any(character.isspace() for character in name):
        raise ValueError(f"{what} must be a word without braces, not {name!r}")
    return name


def _checked_time(what: str, seconds: object) -> float:
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds == 0:
        return 0.0
    return check_positive(what, seconds)


def _checked_lease(lease: object) -> float:
    seconds = check_positive("lease", lease)
    if seconds == math.inf:
        raise ValueError("lease must be finite: what a dead process holds is delivered again after it")
    return seconds
