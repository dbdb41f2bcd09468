"""anyio's streams as Trio's, without importing anyio: whoever has made one has imported it.

Rule: a one-way stream raises what it raises; of a two-way one, what says that it is broken or closed is Trio's own, since
    that is how its two directions tell one failure.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Protocol, TypeVar

import trio

T = TypeVar("T", contravariant=True)


class Sends(Protocol[T]):
    """What items or chunks can be sent to, such as anyio's `ObjectSendStream` and `ByteSendStream`."""

    async def send(self, item: T, /) -> None: ...
    async def aclose(self) -> None: ...


class Exchanges(Sends[bytes], Protocol):
    """A two-way byte stream, such as anyio's `ByteStream`."""

    async def receive(self, max_bytes: int = ..., /) -> bytes: ...
    async def send_eof(self) -> None: ...


def as_trio(thing: Any) -> Any:
    """Return `thing` as Trio's channel or stream where it is one of anyio's, else as it is."""
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


class ObjectSendStream(trio.abc.SendChannel[Any]):
    """anyio's `ObjectSendStream` as a channel."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, value: Any) -> None:
        await self._stream.send(value)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ByteSendStream(trio.abc.SendStream):
    """anyio's `ByteSendStream` as one of Trio's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

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

    async def aclose(self) -> None:
        await self._stream.aclose()


class ByteStream(ByteSendStream, trio.abc.HalfCloseableStream):
    """anyio's `ByteStream` as one of Trio's."""

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
    """Raises Trio's exceptions for anyio's of the same name."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        anyio: Any = sys.modules["anyio"]
        for error in (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            if isinstance(exc, getattr(anyio, error.__name__)):
                raise error(str(exc)) from exc
