"""A large file, read as a whole or piped, for one client or for fifty at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import Refused, as_json, number_in, word_in
from trioflow.demo._memory import give_back

MEGABYTES: Final = 8
ASKED: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SPEED: Final = 3 << 20  # bytes per second that one client takes
PATIENCE: Final = 60.0  # seconds: the clients close their sending side at once, and on a busy machine answers are late
_crowds: Final = trio.CapacityLimiter(1)  # one crowd at a time: fifty copies take enough memory


async def whole(path: Path, request: http.Request, response: http.Response) -> None:
    everything = await tf.read_file(path).pipe(tf.join())
    await response.send(everything)


async def piped(path: Path, request: http.Request, response: http.Response) -> None:
    await tf.read_file(path).pipe(response)


async def slow_client(port: int, taken: list[int]) -> None:
    answer = tf.from_iterable([ASKED]).pipe(tf.connect_tcp("127.0.0.1", port))
    paced = answer.pipe(tf.throttle(SPEED, burst=SPEED / 16, cost=len))
    taken.append(await tf.pipeline(paced, sizes(), capacity=16))


@tf.writable
async def sizes(chunks: tf.ReceiveChannel[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


async def crowd(request: http.Request, response: http.Response) -> None:
    handler = HANDLERS[word_in(request, "how", HANDLERS)]
    clients = number_in(request, "clients", 1, low=1, high=50)
    if _crowds.available_tokens == 0:
        raise Refused("other clients are being served; try again when they are done", 409)
    taken: list[int] = []
    began = trio.current_time()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.txt"
        async with _crowds, trio.open_nursery() as serving:
            await rows(MEGABYTES).pipe(tf.write_file(path))
            serve = partial(http.serve, partial(handler, path), port=0, limits=http.Limits(half_closed=PATIENCE))
            [url] = await serving.start(serve)
            async with trio.open_nursery() as clients_at_once:
                for _ in range(clients):
                    clients_at_once.start_soon(slow_client, int(url.rpartition(":")[2]), taken)
            serving.cancel_scope.cancel()
    give_back()
    await response.send(as_json({"bytes": sum(taken), "seconds": trio.current_time() - began}))


@tf.readable
async def rows(megabytes: int) -> AsyncIterator[bytes]:
    for number in range(megabytes * 16):
        yield b"%015d\n" % number * 4096  # 64 KiB


HANDLERS: Final = {"whole": whole, "piped": piped}
