"""A stream in Redis as a source and as a sink, and a transform between them that acknowledges entries."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress  # noqa: TID251 - what closing a sender raises is ours
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import Stage
from trioflow._core.makers import differing, task
from trioflow._core.streams import Readable, Transform, Writable, label
from trioflow._core.typevars import T
from trioflow.redis.entry import Entry
from trioflow.redis.hand import Delivery
from trioflow.redis.options import (
    CAPACITY,
    DEAD_LETTERS,
    IDEMPOTENCY_WINDOW,
    LEASE,
    MAX_RETRY_DELAY,
    PREFETCH,
    TRIES,
    ReceiverOptions,
    SenderOptions,
    to_json,
)
from trioflow.redis.receipts import Carried, Receipt, Storing, acknowledge_each, followed
from trioflow.redis.receiving import receiver_of
from trioflow.redis.sending import Ended, RedisSender, sender_of


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
    dead_letters: float = DEAD_LETTERS,
    retry_delay: float = 0.0,
    max_retry_delay: float = MAX_RETRY_DELAY,
    decode: Callable[[Entry], T] = json.loads,
    patience: float = math.inf,
    ssl_context: ssl.SSLContext | None = None,
) -> Readable[T]:
    """Read the items of the stream `name`, shared among all runs that name the same `group`.

    An entry is acknowledged when everything made of it is stored by the `writable` at the end, or has passed an
    `acknowledge()`. If this process dies before that, the entry is delivered again. Entries can be followed through
    `map`, `filter`, `flat_map`, `tap`, `map_async`, `map_in_threads`, `map_in_processes`,
    `batch(size, within=seconds)`, `buffer`, `throttle`, `delay` and `timeout`; if a function returns nothing for an
    item, its entry is acknowledged. Other transforms and sinks are refused, unless they come after `acknowledge()`.

    The arguments that are not listed here are those of `open_receiver`.

    Emits when: an entry arrives.
    Waits when: `prefetch` entries are in the chain, unacknowledged.
    Ends when: every sender has closed and every entry is acknowledged, here and elsewhere.
    On cancel: unacknowledged entries are given back. That does not count as a try, except for an entry that failed.
    Holds: `prefetch` entries.

    Args:
        on_error: What to do when a function fails for an item: `"stop"` ends the run with that exception; `"return"`
            gives the entry back and continues. The entry is tried again later, and finally becomes a dead letter.
        prefetch: How many entries may be in the chain at once; at least as many as `map_async` works on at once.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is out of range.
        OSError, trio.BusyResourceError, trio.BrokenResourceError: when it runs, as for `open_receiver`.
    """
    if on_error not in ("stop", "return"):
        raise ValueError(f"on_error must be 'stop' or 'return', got {on_error!r}")
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

    async def run(output: SendChannel[Any]) -> None:
        def carried(delivery: Delivery[Any]) -> Carried | None:
            def failed(error: Exception, together: bool) -> None:  # noqa: FBT001 - as in Receipt
                delivery.give_back(error=error, together=together)

            receipt = Receipt(delivery.done, failed, delivery.is_lost)
            try:
                return Carried(delivery.value, receipt)
            except Exception as exc:
                receipt.fail(exc)
                if on_error == "stop":
                    raise
                return None

        async with receiver_of(options) as deliveries:
            async for batch in deliveries.batches():
                await output.send_many([item for item in map(carried, batch) if item is not None])

    name_shown = label("redis.readable", name, group=group, **differing(on_error=(on_error, "stop")))
    follow = partial(followed, goes_on=on_error == "return")
    return Readable._of(Stage(name_shown, function=run, follow=follow))


def writable(
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
    lease: float = LEASE,
) -> Writable[Any, int]:
    """Store items in the stream `name`, and return how many.

    After a `readable` of this module, it also acknowledges the entries read there. It then registers as a sender when
    the first item arrives, with a `lease`: if this process dies, the registration expires, and other processes are
    given the entries that it has not stored. With any other source it registers at the start, without a lease: if this
    process dies, the stream stays open until a sender with the same `producer` name continues.

    The arguments that are not listed here are those of `open_sender`.

    Waits when: `capacity` entries are unread or unacknowledged, or the server is out of reach.
    Ends when: the source ends. It then closes its sender, and the stream ends when the last sender has closed.
    On cancel: items that were not stored are lost, or given back if they came from a `readable`; the sender is not
        closed.
    Holds: one batch.

    Args:
        encode: As for `open_sender`. It may return an `Entry` with headers, a key, and the other options of `send`.
        lease: If it comes after a `readable`: the seconds without a sign of life from this process after which its
            sender expires.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is out of range.
        OSError, trio.BrokenResourceError: when it runs, as for `open_sender`.
    """
    expiring = SenderOptions(
        *(url, name, patience, ssl_context, wait_replicas),
        capacity=capacity,
        producer=producer,
        encode=encode,
        idempotency_window=idempotency_window,
        lease=lease,
    )
    storing = Storing(partial(_store, replace(expiring, lease=None)), partial(_store_carried, expiring))
    return Writable._of(Stage(label("redis.writable", name), function=storing))


async def _store(options: SenderOptions, source: ReceiveChannel[Any]) -> int:
    """Store items that have no receipts."""
    count = 0
    async with sender_of(options) as send:
        async for items in source.batches():
            await send.send_many(items)
            count += len(items)
    return count


async def _store_carried(options: SenderOptions, source: ReceiveChannel[Carried]) -> int:
    """Store items, and settle their receipts."""
    count = 0
    async with AsyncExitStack() as stack:
        send: RedisSender[Any] | None = None
        async for items in source.batches():
            try:
                if send is None:
                    send = await stack.enter_async_context(sender_of(options))
                await send.send_many([item.value for item in items])
            except Ended:
                # If this process was silent for long, others may have done all the work, including its own.
                if not all([await item.receipt.is_lost() for item in items]):
                    raise
                continue
            except (OSError, trio.BrokenResourceError):
                raise
            except Exception as exc:
                for item in items:
                    item.receipt.fail(exc, together=len(items) > 1)  # one of them could not be encoded
                raise
            for item in items:
                item.receipt.settle()
            count += len(items)
    if send is None:
        # Either others have done everything, and may have closed the stream, or it was empty: then close it.
        with suppress(Ended):
            async with sender_of(options):
                pass
    return count


def acknowledge() -> Transform[T, T]:
    """Acknowledge the entries of a `readable` here in the chain, each when the next stage has room for its items.

    Any transform and any sink may follow. If items are lost after this point, by a failure or a cancellation, they are
    not delivered again. So do the important work before it, for instance in a `map_async`.

    Emits when: an item arrives.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: items that were not sent on are given back.
    Holds: one batch.

    Raises:
        TypeError: when it runs, it does not come after a `readable` of this module.
    """
    return task(acknowledge_each, "redis.acknowledge")
