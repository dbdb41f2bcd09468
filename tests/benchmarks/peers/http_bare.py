"""Trio alone: a loop that reads a request of any kind and answers it with a constant."""

import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

body = (Path(sys.argv[1]) / "file.bin").read_bytes()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def answer(stream: trio.SocketStream) -> None:
    received = b""
    with suppress(trio.BrokenResourceError):  # a client may leave at any time
        while data := await stream.receive_some(65536):
            received += data
            while b"\r\n\r\n" in received:
                received = received.partition(b"\r\n\r\n")[2]
                await stream.send_all(ANSWER)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1", backlog=4096))
        print(json.dumps({"port": listeners[0].socket.getsockname()[1]}), flush=True)


trio.run(main)
