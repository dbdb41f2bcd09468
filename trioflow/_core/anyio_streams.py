"""anyio's streams as Trio's. anyio is never imported here: if you have one of its streams, it is imported already.

Rule: exceptions of a one-way stream pass unchanged. For a two-way stream, anyio's errors for broken, closed and busy become
    Trio's, as by these its two directions recognize that they share one failure.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Protocol, TypeVar

import trio

T = TypeVar("T", contravariant=True)


class Sends(Protocol[T]):
    """Anything that items or chunks can be sent to, such as anyio's `ObjectSendStream` and `ByteSendStream`."""

    async def send(self, item: T, /) -> None: ...
    async def aclose(self) -> None: ...


class Exchanges(Sends[bytes], Protocol):
    """A two-way byte stream, such as anyio's `ByteStream`."""

    async def receive(self, max_bytes: int = ..., /) -> bytes: ...
    async def send_eof(self) -> None: ...


def as_trio(thing: Any) -> Any:
    """Return a Trio channel or stream over `thing` if it is one of anyio's streams, or else `thing` itself."""
    abc: Any = sys.modules.get("anyio.abc")
    if abc is None:
        return thing
    if isinstance(thing, abc.ByteStream):
        return ByteStream(thing)
    if isinstance(thing, abc.ByteSendStream):
        return ByteSendStream(thing)
    if isinstance(thing, abc.ObjectSendStream) and not isinstance(thing, abc.ObjectStream):
        return ObjectSendStream(thing)
    return thing


class _Resource(trio.abc.AsyncResource):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.aclose()


class ObjectSendStream(_Resource, trio.abc.SendChannel[Any]):
    """anyio's `ObjectSendStream` as a Trio channel."""

    async def send(self, value: Any) -> None:
        await self._stream.send(value)


class ByteSendStream(_Resource, trio.abc.SendStream):
    """anyio's `ByteSendStream` as a Trio stream."""

    @property
    def socket(self) -> socket.socket | None:
        """The socket underneath, if there is one."""
        abc: Any = sys.modules["anyio.abc"]
        found: socket.socket | None = self._stream.extra(abc.SocketAttribute.raw_socket, None)
        return found

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()


class ByteStream(ByteSendStream, trio.abc.HalfCloseableStream):
    """anyio's `ByteStream` as a Trio stream."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with _Translated():
            await super().send_all(data)

    async def send_eof(self) -> None:
        with _Translated():
            await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        anyio: Any = sys.modules["anyio"]
        with _Translated():
            try:
                chunk: bytes = await self._stream.receive(65536 if max_bytes is None else max_bytes)
            except anyio.EndOfStream:
                return b""
            return chunk


class _Translated:
    """Turns anyio's exceptions into Trio's of the same name."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        anyio: Any = sys.modules["anyio"]
        for error in (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            if isinstance(exc, getattr(anyio, error.__name__)):
                raise error(str(exc)) from exc
