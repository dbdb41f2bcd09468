"""The two ends of a stream in Redis, with their arguments checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_count, check_function, check_limit
from trioflow.redis.client import Address
from trioflow.redis.options import CAPACITY, LEASE, TRIES, check_lease, check_name, check_patience, to_json
from trioflow.redis.receiving import Delivery, receiver_of
from trioflow.redis.sending import RedisSender, sender_to


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
        check_name("name", name),
        encode=encode,
        capacity=check_count("capacity", capacity, 1),
        producer=None if producer is None else check_name("producer", producer),
        patience=check_patience(patience),
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
        check_name("name", name),
        check_name("group", group),
        decode=decode,
        receiver=None if receiver is None else check_name("receiver", receiver),
        prefetch=check_count("prefetch", prefetch, 1),
        lease=check_lease(lease),
        tries=check_limit("tries", tries),
        patience=check_patience(patience),
    )
