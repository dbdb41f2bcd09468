"""Streams in Redis as a source and a sink, and the place between them where entries are done."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import partial
from typing import Any, TypeVar, overload

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import Stage
from trioflow._core.makers import differing
from trioflow._core.streams import Readable, Transform, Writable, label
from trioflow.redis.client import Address
from trioflow.redis.ends import open_receiver, open_sender
from trioflow.redis.options import CAPACITY, LEASE, PREFETCH, TRIES, check_lease, to_json
from trioflow.redis.receipts import Carried, Receipt, Storing, acknowledge_each, followed
from trioflow.redis.receiving import Delivery
from trioflow.redis.sending import Ended, RedisSender, sender_to

T = TypeVar("T")


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
        def carried(delivery: Delivery[Any]) -> Carried | None:
            receipt = Receipt(delivery.done, delivery.give_back, delivery.is_lost)
            try:
                return Carried(delivery.value, receipt)
            except Exception:
                receipt.fail()
                if on_error == "stop":
                    raise
                return None

        async with enter() as deliveries:
            async for batch in deliveries.batches():
                await output.send_many([item for item in map(carried, batch) if item is not None])

    name_shown = label("redis.readable", name, group=group, **differing(on_error=(on_error, "stop")))
    follow = partial(followed, goes_on=on_error == "return")
    return Readable[Any]._of(Stage(name_shown, function=run, follow=follow))


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
    expiry = check_lease(lease)

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
                try:
                    if send is None:
                        send = await stack.enter_async_context(enter(expiry))
                    await send.send_many([item.value for item in items])
                except Ended:
                    # Who was not heard of for long may find that others have done its work, and all the rest.
                    if not all([await item.receipt.is_lost() for item in items]):
                        raise
                    continue
                except (OSError, trio.BrokenResourceError):
                    raise
                except Exception:
                    for item in items:
                        item.receipt.fail()  # one of them cannot be encoded
                    raise
                for item in items:
                    item.receipt.settle()
                count += len(items)
        if send is None:
            # All was done by others, who may have closed; if there was nothing at all, somebody must.
            with suppress(Ended):
                async with enter(expiry):
                    pass
        return count

    return Writable[Any, int]._of(Stage(label("redis.writable", name), function=Storing(run, store)))


def acknowledge() -> Transform[T, T]:
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
    return Transform[T, T]._of(Stage(label("redis.acknowledge"), function=acknowledge_each))
