"""A channel that several tasks send to and receive from in every way, some of them cancelled: each item arrives once."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import trioflow as tf
from trioflow._core import in_place
from trioflow._core.generators import generate
from trioflow._core.in_place import left_by
from trioflow._core.moving import forward, forward_singly
from trioflow._core.one_by_one import one_by_one

ITEMS = 12  # of each sender


class World:
    """One channel, and what went through it. Decisions are random, as they depend on how the tasks take turns."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.attempted: list[int] = []
        self.sent: list[int] = []
        self.got: list[int] = []

    async def pause(self) -> None:
        await self.random.choice(
            [trio.lowlevel.checkpoint, partial(trio.sleep, 0.5), trio.lowlevel.checkpoint_if_cancelled]
        )()

    async def is_done(self, call: Callable[[], Any]) -> bool:
        """Await `call()`, perhaps under a time limit; return whether it was not cancelled."""
        with trio.move_on_after(self.random.choice([0.1, 1, math.inf, math.inf])):
            await call()
            return True
        return False

    async def send(self, number: int, output: tf.SendChannel[int]) -> None:
        with output:
            items = iter(range(number * 100, number * 100 + ITEMS))
            while part := [item for item, _ in zip(items, range(self.random.randint(1, 5)), strict=False)]:
                self.attempted += part
                call = partial(output.send, part[0]) if len(part) == 1 else partial(output.send_many, part)
                if await self.is_done(call):
                    self.sent += part
                await self.pause()

    async def read(self, how: str, source: tf.ReceiveChannel[int]) -> None:
        await getattr(self, how)(source)
        assert source.statistics().open_send_channels == source.statistics().used == 0  # nothing else ended it
        source.close()

    async def receive(self, source: tf.ReceiveChannel[int]) -> None:
        try:
            while True:
                await self.is_done(lambda: self._take_next(source))
                await self.pause()
        except trio.EndOfChannel:
            pass

    async def _take_next(self, source: tf.ReceiveChannel[int]) -> None:
        if self.random.random() < 0.5:
            self.got.append(await source.receive())
        else:
            self.got += await source.receive_many(self.random.choice([None, 2]))

    async def loop(self, source: tf.ReceiveChannel[int]) -> None:
        async def items(source: Any) -> AsyncIterator[int]:
            async def take() -> None:
                async for item in source:
                    self.got.append(item)
                    await self.pause()
                    await self.is_done(take_two)

            async def take_two() -> None:
                async for item in source:
                    self.got.append(item)
                    if item % 2:
                        break

            while not await self.is_done(take):
                yield 0

        output, unread = tf.open_channel[int](math.inf)
        with output, unread:
            await generate(items, (), {}, source, output)

    async def move(self, source: tf.ReceiveChannel[int], how: Callable[..., Any] = forward) -> None:
        output, moved = tf.open_channel[int](self.random.choice([1, 3, 300]))

        async def read() -> None:
            async for item in moved:
                self.got.append(item)
                await self.pause()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with output:
                while not await self.is_done(lambda: how(source, output)):
                    pass

    async def move_singly(self, source: tf.ReceiveChannel[int]) -> None:
        await self.move(source, forward_singly)

    async def handle(self, source: tf.ReceiveChannel[int]) -> None:
        def take(items: list[int]) -> list[int]:
            self.got += items
            return items[: self.random.randint(0, 1)]

        async def take_all() -> None:
            async for _ in left_by(source, take):
                await self.pause()

        while not await self.is_done(take_all):
            pass


READERS = ["receive", "loop", "move", "move_singly", "handle"]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    senders=st.integers(1, 3),
    readers=st.lists(st.tuples(st.sampled_from(READERS), st.booleans()), min_size=1, max_size=3),
    capacity=st.sampled_from([1, 2, 5, math.inf]),
)
def test_every_item_of_a_shared_channel_arrives_once_however_it_is_sent_and_received(
    seed: int, senders: int, readers: Sequence[tuple[str, bool]], capacity: float
) -> None:
    world = World(seed)

    async def main() -> None:
        output, source = tf.open_channel[int](capacity)
        with trio.fail_after(100_000):
            async with trio.open_nursery() as nursery:
                for number in range(senders):
                    nursery.start_soon(world.send, number, output.clone())
                for how, is_single in readers:
                    end = one_by_one(source.clone()) if is_single else source.clone()
                    nursery.start_soon(world.read, how, end)
                output.close()
                source.close()
        assert output.statistics().items == len(world.got)
        assert output.statistics().peak <= capacity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "perf_counter", trio.current_time)
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert len({*world.got}) == len(world.got)
    assert {*world.sent} <= {*world.got} <= {*world.attempted}
    if len(readers) == 1:
        for number in range(senders):
            of_one = [item for item in world.got if item // 100 == number]
            assert of_one == sorted(of_one)
