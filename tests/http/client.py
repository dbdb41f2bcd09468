"""A server in the test's own nursery, and clients that send exactly the given bytes, for the tests of trioflow.http."""

from __future__ import annotations

import dataclasses
import re
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import trio
from trio.testing import MockClock

from trioflow import http

RESET = struct.pack("ii", 1, 0)
# What every response also has: the date, and how long its connection may be idle.
DATE = re.compile(rb"Date: [^\r]*\r\n|Connection: keep-alive\r\nKeep-Alive: timeout=59\r\n")


@asynccontextmanager
async def serving(handler: Any, **options: Any) -> AsyncGenerator[int, None]:
    """Serve on a port the system chooses, and stop at the end of the block."""
    limits = options.get("limits", http.Limits())
    if limits.half_closed == http.Limits().half_closed and not isinstance(trio.lowlevel.current_clock(), MockClock):
        # Most clients of these tests end their side at once, and get their answer also if the machine is busy.
        options["limits"] = dataclasses.replace(limits, half_closed=60)
    async with trio.open_nursery() as nursery:
        url, *_ = await nursery.start(partial(http.serve, handler, port=0, **options))
        yield int(url.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served(root: Path, log: list[http.Access] | None = None) -> AsyncGenerator[str, None]:
    """Serve a directory, record the requests in `log`, and yield its URL."""
    with trio.fail_after(60):
        async with serving(http.files(root), log=None if log is None else log.append) as port:
            yield f"http://127.0.0.1:{port}"


async def ran(*command: str | Path, check: bool = True) -> bytes:
    """Run a program and return what it prints."""
    done = await trio.run_process([*map(str, command)], capture_stdout=True, capture_stderr=True, check=check)
    return bytes(done.stdout)


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[trio.SocketStream, None]:
    """A connection as bytes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end, without the dates."""
    got = bytearray()
    async for chunk in stream:
        got += chunk
    return DATE.sub(b"", bytes(got))


async def read_until(stream: trio.abc.ReceiveStream, what: bytes) -> bytes:
    """Read until the data ends in `what`, or to its end; return it without the dates."""
    got = bytearray()
    while not got.endswith(what):
        chunk = await stream.receive_some()
        if not chunk:
            break
        got += chunk
    return DATE.sub(b"", bytes(got))


async def exchanged(port: int, *pieces: bytes, half_close: bool = True) -> bytes:
    """Send data, end our direction, and return everything received."""
    async with connected(port) as stream:
        for piece in pieces:
            await stream.send_all(piece)
        if half_close:
            await stream.send_eof()
        return await read_all(stream)


def reset(stream: trio.SocketStream) -> None:
    """Reset the connection, as a client that crashed."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.socket.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs


class Client:
    """A client that checks that the server follows the protocol: h11's."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.connection = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: list[bytes] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return the status, headers and body of the response."""
        if self.connection.our_state is h11.DONE:
            self.connection.start_next_cycle()
        fields = [("Host", "localhost"), *(headers or [])]
        request = h11.Request(method=method, target=target, headers=fields)
        data = self.connection.send(request)
        for chunk in body or []:
            data += self.connection.send(h11.Data(data=chunk))
        await self.stream.send_all(data + self.connection.send(h11.EndOfMessage()))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response."""
        status, headers, body = 0, {}, b""
        while True:
            event = self.connection.next_event()
            match event:
                case h11.NEED_DATA:
                    self.connection.receive_data(await self.stream.receive_some())
                case h11.Response():
                    status = event.status_code
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    return status, headers, body
                case _:
                    raise AssertionError(f"the server answered with {event!r}")
