"""A worker: calls a handler on deliveries, several at once, and stops in order.

Rule 1: a worker that is told to stop receives nothing more, gives back at once what no handler has begun, and lets the
    handlers in progress continue for `grace` seconds. Their leases are still renewed.
Rule 2: if a handler raises, its entry is given back, the exception is logged, and the worker continues. A
    `BaseException` that is not an `Exception`, such as SystemExit, ends the worker.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Required, TypeAlias, TypedDict, Unpack

import trio

from trioflow._core.channel import ReceiveChannel
from trioflow._core.checks import check_count, check_function, check_positive, is_async
from trioflow._core.crew import Crew
from trioflow._core.errors import sole, split_failure
from trioflow._core.labels import name_of
from trioflow._core.signals import run_until_a_signal
from trioflow.redis.entry import Entry
from trioflow.redis.hand import Delivery
from trioflow.redis.options import DEAD_LETTERS, LEASE, MAX_RETRY_DELAY, TRIES, ReceiverOptions
from trioflow.redis.receiving import receiver_of

GRACE: Final = 20.0  # seconds
_log: Final = logging.getLogger("trioflow.redis")

DeliveryHandler: TypeAlias = Callable[[Delivery[Any]], object]


class WorkOptions(TypedDict, total=False):
    """The options of `work`."""

    group: Required[str]
    concurrency: int
    grace: float
    prefetch: int | None
    lease: float
    tries: float
    dead_letters: float
    retry_delay: float
    max_retry_delay: float
    decode: Callable[[Entry], Any]
    patience: float
    ssl_context: ssl.SSLContext | None


def run(handler: DeliveryHandler, url: str, name: str, **options: Unpack[WorkOptions]) -> None:
    """Run Trio and work on the stream `name` until it ends, or until Ctrl-C or SIGTERM: a whole program in one call.

    The arguments are those of `work`. At the first signal it stops as `work` does when it is cancelled, and returns; a
    second signal ends the process at once.

    Raises:
        TypeError, ValueError, OSError, StreamLost, trio.BrokenResourceError: as `work` does.
    """
    run_until_a_signal(partial(work, handler, url, name, **options))


async def work(
    handler: DeliveryHandler,
    url: str,
    name: str,
    *,
    group: str,
    concurrency: int = 1,
    grace: float = GRACE,
    prefetch: int | None = None,
    lease: float = LEASE,
    tries: float = TRIES,
    dead_letters: float = DEAD_LETTERS,
    retry_delay: float = 0.0,
    max_retry_delay: float = MAX_RETRY_DELAY,
    decode: Callable[[Entry], Any] = json.loads,
    patience: float = math.inf,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `handler(delivery)` for the entries of the stream `name`, `concurrency` at once, until the stream ends.

    An entry is acknowledged when its call returns. If the call raises, the entry is given back, the exception is logged
    to `trioflow.redis`, and the worker continues. A call may take longer than `lease`, which is renewed while Trio's
    event loop runs. An async handler that blocks the loop for longer than that loses its entries to other workers.

    When cancelled, it receives nothing more, gives back the entries that no call has begun, and lets the calls in
    progress continue for `grace` seconds. After that they are cancelled and their entries are given back, which does
    not count as a try.

    The arguments that are not listed here are those of `open_receiver`.

    Args:
        handler: An async function that takes a `Delivery`, or a plain one, which is called in a thread and must not
            call `done` or `give_back`. A thread cannot be cancelled: after `grace` it is abandoned, and may run until
            the process ends.
        concurrency: How many calls may be in progress at once.
        grace: The seconds for which calls in progress may continue when the worker is told to stop; 0 for none.
        prefetch: How many unacknowledged entries to hold at once; None for `concurrency`, which shares slow work most
            evenly. For calls that take milliseconds, use more.
        task_status: Started when it begins to receive.

    Raises as `open_receiver` does.
    """
    check_handler(handler)
    check_count("concurrency", concurrency, 1)
    if isinstance(grace, bool) or grace != 0:
        check_positive("grace", grace)
    if prefetch is not None:
        check_count("prefetch", prefetch, concurrency)
    options = ReceiverOptions(
        *(url, name, patience, ssl_context),
        group=group,
        receiver=None,
        prefetch=concurrency if prefetch is None else prefetch,
        lease=lease,
        tries=tries,
        dead_letters=dead_letters,
        retry_delay=retry_delay,
        max_retry_delay=max_retry_delay,
        decode=decode,
    )
    await _Worker(handler, options, concurrency, grace).run(task_status)


def check_handler(handler: Any) -> None:
    """Raise unless `handler` is a function that can be called with a delivery."""
    check_function("work", handler)
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError(f"work expects a function, got the generator {name_of(handler)}; remove its `yield`")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"work calls its handler with one argument, the delivery, got {name_of(handler)}{signature}"
        ) from None


class _Worker:
    def __init__(self, handler: DeliveryHandler, options: ReceiverOptions, concurrency: int, grace: float) -> None:
        self._handler: Callable[[Delivery[Any]], Any] = handler
        self._is_async = is_async(handler)
        self._options = options
        self._concurrency = concurrency
        self._grace = grace
        self._room = trio.Semaphore(concurrency)
        self._threads = trio.CapacityLimiter(concurrency)
        self._receiving = trio.CancelScope()
        self._whole = trio.CancelScope(shield=True)
        self._is_open = False
        self._begun = self._done = self._failed = self._unfinished = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        async with Crew() as crew:
            crew.start(self._stop_when_cancelled)
            with self._whole:
                await self._work(task_status)
            crew.cancel()

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._receiving.cancel()
            self._whole.deadline = trio.current_time() + (self._grace if self._is_open else 0)

    async def _work(self, task_status: trio.TaskStatus[None]) -> None:
        """Work until the stream has ended, or until the calls in progress at a stop are done."""
        options = self._options
        try:
            async with receiver_of(options) as deliveries, Crew() as calls:
                self._is_open = True
                _log.info("working on %r in the group %r, %d at once", options.name, options.group, self._concurrency)
                task_status.started()
                await self._take(deliveries, calls)
        finally:
            counts = (self._done, self._failed, self._unfinished)
            _log.info("stopped: %d done, %d failed, %d given back unfinished", *counts)

    async def _take(self, deliveries: ReceiveChannel[Delivery[Any]], calls: Crew) -> None:
        with self._receiving:
            while True:
                await self._room.acquire()
                try:
                    delivery = await deliveries.receive()
                except trio.EndOfChannel:
                    _log.info("the stream has ended")
                    return
                self._begun += 1
                calls.start(self._call, delivery)
        in_progress = self._begun - self._done - self._failed
        _log.info("stopping: %d in progress, for at most %g seconds", in_progress, self._grace)
        try:
            untouched = deliveries.receive_many_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            untouched = []
        for delivery in untouched:
            delivery.give_back(tried=False)
        deliveries.close()

    async def _call(self, delivery: Delivery[Any]) -> None:
        try:
            async with delivery:
                if self._is_async:
                    await self._handler(delivery)
                else:
                    await trio.to_thread.run_sync(
                        self._handler, delivery, abandon_on_cancel=True, limiter=self._threads
                    )
            self._done += 1
        except BaseException as exc:
            failure, rest = split_failure(exc)
            if failure is None:
                self._unfinished += 1
                raise
            self._failed += 1
            self._log_failure(delivery, failure)
            if rest is not None:
                raise rest from None
        finally:
            self._room.release()

    def _log_failure(self, delivery: Delivery[Any], failure: BaseException) -> None:
        error = sole(failure)
        is_last = delivery.times >= self._options.tries
        _log.log(
            logging.ERROR if is_last else logging.WARNING,
            "entry %s failed on try %d of %g, and %s: %s: %s",
            delivery.id,
            delivery.times,
            self._options.tries,
            "becomes a dead letter" if is_last else "will be tried again",
            type(error).__name__,
            error,
            exc_info=failure,
        )
