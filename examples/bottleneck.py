"""A slow stage in the middle of a run: the inspector's page, `trioflow top` and the metrics all name it.

Node: none; a profiler and your own counters.
"""

import time
from functools import partial

import trio

import trioflow as tf
from trioflow import http


def look_up(number: int) -> int:
    time.sleep(0.002)  # the bottleneck
    return number


async def work() -> None:
    numbers = tf.from_iterable(range(10**9)).pipe(tf.map(lambda n: n + 1))
    await tf.pipeline(numbers, tf.map_in_threads(look_up), tf.batch(10), tf.drain())


async def main() -> None:
    async with tf.inspect() as inspector, trio.open_nursery() as nursery:
        page, metrics = http.inspector(inspector), http.metrics(inspector=inspector)

        async def handler(request: http.Request, response: http.Response) -> None:
            await (metrics if request.path == "/metrics" else page)(request, response)

        nursery.start_soon(work)
        print(*await nursery.start(partial(http.serve, handler, port=8000)))


trio.run(main)

# Prints:
# $ trioflow top http://127.0.0.1:8000 --once | grep "the others wait"
# map_in_threads(look_up) ... < the others wait for it
# $ trioflow top http://127.0.0.1:8000 --once --json | \
#     python3 -c 'import json, sys; [run] = json.load(sys.stdin)["runs"]; print(run["stages"][run["slowest"]]["name"])'
# map_in_threads(look_up)
# $ curl -s http://127.0.0.1:8000/runs.json | \
#     python3 -c 'import json, sys; [run] = json.load(sys.stdin)["runs"]; print(run["stages"][run["slowest"]]["name"])'
# map_in_threads(look_up)
# $ curl -s http://127.0.0.1:8000/metrics | grep ^trioflow_stage_slowest.*1.0 | grep -o 'stage=".*"'
# stage="map_in_threads(look_up)"
