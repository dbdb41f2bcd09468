"""Sensors in windows of time: the mean of each minute, and which sensors were silent. A mock clock skips the waits.

Node: none; RxJS has bufferTime, and a scheduler for tests.
"""

from collections.abc import AsyncIterator

import trio
import trio.testing

import trioflow as tf


@tf.readable
async def sensor(name: str, times: list[float], celsius: float) -> AsyncIterator[tuple[str, float]]:
    for step, time in enumerate(times):
        await trio.sleep_until(time)  # this clock starts at 0
        yield name, celsius + step


def summary(readings: list[tuple[str, float]]) -> str:
    time = f"{trio.current_time():3.0f} s:"
    if silent := {"attic", "cellar"} - {name for name, _ in readings}:
        return f"{time} nothing from {' and '.join(sorted(silent))}"
    return f"{time} {sum(celsius for _, celsius in readings) / len(readings):.1f} °C, of {len(readings)} readings"


async def main() -> None:
    attic = sensor("attic", [10, 30, 50, 70, 90, 190, 210], celsius=20)
    cellar = sensor("cellar", [20, 200, 220], celsius=10)
    await tf.merge(attic, cellar).pipe(tf.window_time(60, empty=True)).pipe(tf.map(summary)).pipe(tf.for_each(print))


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

# Prints:
#  60 s: 18.2 °C, of 4 readings
# 120 s: nothing from cellar
# 180 s: nothing from attic and cellar
# 220 s: 18.5 °C, of 4 readings
