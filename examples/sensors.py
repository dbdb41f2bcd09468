"""Two sensors, smoothed, merged and throttled into a log of JSON lines. A mock clock makes an hour take no time.

Node: none; merging, throttling and a mock clock are packages.
"""

from collections.abc import AsyncIterator

import trio
import trio.testing

import trioflow as tf


@tf.readable
async def sensor(place: str, every: float, celsius: list[float]) -> AsyncIterator[tuple[str, float]]:
    for reading in celsius:
        await trio.sleep(every)
        yield place, reading


def average(readings: tuple[tuple[str, float], ...]) -> dict[str, object]:
    place, _ = readings[0]
    return {"place": place, "celsius": round(sum(celsius for _, celsius in readings) / len(readings), 1)}


def stamped(reading: dict[str, object]) -> dict[str, object]:
    return {"minute": round(trio.current_time() / 60), **reading}


async def main() -> None:
    attic = sensor("attic", 300, [21.0, 21.5, 29.0, 22.5, 23.0, 23.5])
    cellar = sensor("cellar", 840, [12.0, 12.2, 11.9, 12.1])

    smooth = [feed.pipe(tf.window(3)).pipe(tf.map(average)) for feed in (attic, cellar)]
    written = await (
        tf.merge(*smooth)
        .pipe(tf.timeout(1800))  # fail if there is no reading for half an hour
        .pipe(tf.throttle(6, per=3600, burst=2))  # each message over the uplink costs money
        .pipe(tf.map(stamped))
        .pipe(tf.json_lines())
        .pipe(tf.write_file("readings.jsonl"))
    )

    print(written, "bytes")
    await tf.read_file("readings.jsonl").pipe(tf.lines()).pipe(tf.for_each(print))


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

# Prints:
# 272 bytes
# {"minute":15,"place":"attic","celsius":23.8}
# {"minute":20,"place":"attic","celsius":24.3}
# {"minute":25,"place":"attic","celsius":24.8}
# {"minute":35,"place":"attic","celsius":23.0}
# {"minute":45,"place":"cellar","celsius":12.0}
# {"minute":56,"place":"cellar","celsius":12.1}
