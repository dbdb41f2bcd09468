"""Random chains with random faults, cancellations and readers: what holds of every run."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from tests.consumers import Boom, failures_in, passes, tasks

ITEMS = 12


@dataclass
class Log:
    """What stages report."""

    opened: int = 0
    closed: int = 0
    raised: list[BaseException] = field(default_factory=list)
    has_failed: bool = False  # a failure has left its stage
    late: list[object] = field(default_factory=list)  # what stages received after that

    def fail(self) -> None:
        self.raised.append(Boom(len(self.raised)))
        raise self.raised[-1]

    def saw(self, what: object) -> None:
        if self.has_failed:
            self.late.append(what)


@dataclass(frozen=True)
class Plan:
    """How one stage behaves: what it is, when it fails, how slow it is and how it closes."""

    kind: str
    fails_at: int  # the number of the item; above ITEMS: never
    pauses: int  # scheduler passes for each item
    closing: int  # shielded scheduler passes
    fails_in_closing: bool

    def transform(self, log: Log) -> tf.Transform[int, int]:
        return getattr(self, self.kind)(log)  # type: ignore[no-any-return]

    def plain(self, log: Log) -> tf.Transform[int, int]:
        return tf.map(lambda item: self.look_and_leave(log, item))

    def look(self, log: Log, item: int) -> int:
        log.saw(item)
        if item == self.fails_at:
            log.fail()
        return item

    def look_and_leave(self, log: Log, item: int) -> int:
        """Look at an item, in a stage that a failure leaves at once."""
        try:
            return self.look(log, item)
        except Boom:
            log.has_failed = True
            raise

    def awaiting(self, log: Log) -> tf.Transform[int, int]:
        async def step(item: int) -> int:
            await passes(self.pauses)
            return self.look_and_leave(log, item)

        return tf.map(step)

    def lazily(self, log: Log) -> tf.Transform[int, int]:
        def give(item: int) -> Any:
            yield self.look_and_leave(log, item)

        return tf.flat_map(give)

    def taking(self, log: Log) -> tf.Transform[int, int]:
        return tf.take(self.fails_at)

    def generator(self, log: Log) -> tf.Transform[int, int]:
        @tf.transform
        async def generator(items: AsyncIterable[int]) -> AsyncIterator[int]:
            log.opened += 1
            failure: Exception | None = None
            try:
                async for item in items:
                    yield self.look(log, item)
                    await passes(self.pauses)
                log.saw("flush")
            except Boom as exc:
                failure = exc
                raise
            finally:
                await self.close(log, failure)

        return generator()

    def channels(self, log: Log) -> tf.Transform[int, int]:
        async def channels(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
            log.opened += 1
            failure: Exception | None = None
            try:
                async for item in source:
                    await passes(self.pauses)
                    await output.send(self.look(log, item))
                log.saw("flush")
            except Boom as exc:
                failure = exc
                raise
            finally:
                await self.close(log, failure)

        return tf.Transform(channels)

    def nursery(self, log: Log) -> tf.Transform[int, int]:
        async def workers(source: tf.ReceiveChannel[int], output: tf.SendChannel[int]) -> None:
            async def watch() -> None:
                await trio.sleep_forever()

            log.opened += 1
            failure: Exception | None = None
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch)
                    async for items in source.batches():
                        await output.send_many([self.look(log, item) for item in items])
                    nursery.cancel_scope.cancel()
            except ExceptionGroup as exc:
                failure = exc
                raise
            finally:
                await self.close(log, failure)

        return tf.Transform(workers)

    async def close(self, log: Log, failure: BaseException | None) -> None:
        log.closed += 1
        with trio.CancelScope(shield=True):
            await passes(self.closing)
        log.has_failed = log.has_failed or failure is not None or self.fails_in_closing
        if self.fails_in_closing:
            log.fail()


PLANS = st.builds(
    Plan,
    kind=st.sampled_from(["plain", "awaiting", "lazily", "taking", "generator", "channels", "nursery"]),
    fails_at=st.integers(0, 3 * ITEMS),
    pauses=st.integers(0, 2),
    closing=st.integers(0, 3),
    fails_in_closing=st.integers(0, 9).map(lambda n: n == 0),
)


@settings(max_examples=150)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=4),
    source=st.sampled_from(["plain", "generator", "channels"]),
    mode=st.sampled_from(["run", "read", "leave", "write"]),
    capacity=st.sampled_from([1, 2, 256]),
    cancel_after=st.integers(0, 120),
    leave_after=st.integers(0, ITEMS),
)
async def test_the_rules_hold_whatever_goes_wrong(
    plans: list[Plan], source: str, mode: str, capacity: int, cancel_after: int, leave_after: int
) -> None:
    log = Log()
    before = tasks()
    got: list[int] = []
    seen: list[BaseException] = []
    sources: dict[str, tf.Readable[int]] = {
        "plain": tf.from_iterable(range(ITEMS)),
        "generator": tf.from_iterable(range(ITEMS)).pipe(Plan("generator", 99, 1, 0, False).transform(log)),
        "channels": tf.from_iterable(range(ITEMS)).pipe(Plan("channels", 99, 0, 2, False).transform(log)),
    }
    chain: tf.Transform[int, int] = plans[0].transform(log)
    for plan in plans[1:]:
        chain = chain.pipe(plan.transform(log))
    readable = sources[source].pipe(chain)

    async def sink(items: tf.ReceiveChannel[int]) -> str:
        async for item in items:
            log.saw(item)
            got.append(item)
        log.saw("end")
        return "done"

    async def consume() -> object:
        if mode == "run":
            return await tf.pipeline(readable, tf.Writable(sink), capacity=capacity)
        if mode == "write":
            async with chain.pipe(tf.Writable(sink)).open(capacity=capacity) as send:
                for n in range(ITEMS):
                    await send.send(n)
            return "left"
        async with readable.open(capacity=capacity) as receive:
            async for item in receive:
                got.append(item)
                await passes(1)
                if mode == "leave" and len(got) >= leave_after:
                    break
        return "left"

    async def cancel() -> None:
        await passes(cancel_after)
        scope.cancel()

    result: object = None
    notes: list[str] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(cancel)
            with scope:
                try:
                    result = await consume()
                except Exception as exc:  # noqa: BLE001 - looked at below
                    seen = failures_in(exc)
                    notes = exc.__notes__ if isinstance(exc, Boom) else ["in stage"]
            nursery.cancel_scope.cancel()

    assert tasks() == before  # R2
    assert log.opened == log.closed
    assert got == list(range(len(got)))  # R8, R18
    if mode != "leave":
        limits = [plan.fails_at for plan in plans if plan.kind == "taking"]
        assert len(got) <= min([ITEMS, *limits])
    assert set(map(id, seen)) <= set(map(id, log.raised))  # R11: only what stages raised,
    assert set(map(id, log.raised)) <= set(map(id, seen))  # R17: and all of it
    assert all("in stage" in note for note in notes)
    if not seen and not scope.cancelled_caught and mode != "leave":
        limits = [plan.fails_at for plan in plans if plan.kind == "taking"]
        assert len(got) == min([ITEMS, *limits])  # R9: nothing but a stage ended it
        assert result in ("done", "left")
    assert log.late == []  # R12
