"""TLS over one connected socket, within the limits that hold for the socket.

Rule 1: at most 64 KiB of encrypted data wait in memory: the next piece is encrypted when the last one has been sent.
Rule 2: a connection that ends in order says so (close_notify), without waiting for an answer; one that is cut does not,
    so that the client notices (R13).
Rule 3: a client may end its direction without close_notify: whether its request is complete follows from its framing.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator

import trio

from trioflow.http.wire.limits import Patience, RequestError
from trioflow.http.wire.socket import CHUNK, SocketTransport
from trioflow.io.page_cache import read_cached

_PORTION = 65536  # bytes encrypted at once


class PlainTextError(RequestError):
    """A request that came without TLS, where TLS is expected; `received` is what came of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__(400, "the client does not speak TLS")
        self.received = received


class TlsTransport(SocketTransport):
    """A socket that speaks TLS, as the server. Call `shake_hands` first.

    Args:
        plain: The socket; it is taken over.
        context: The server's certificate and what is allowed.
    """

    __slots__ = ("_incoming", "_is_over", "_outgoing", "_sending", "_tls")

    is_plain = False

    def __init__(self, plain: SocketTransport, context: ssl.SSLContext) -> None:
        super().__init__(
            plain.sock, stall=plain._stall, rate=plain._rate, on_loss=plain.on_loss, counters=plain.counters
        )
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = trio.Lock()
        self._is_over = False  # we have sent close_notify: what still comes is discarded undecrypted

    async def shake_hands(self) -> None:
        """Do the TLS handshake.

        Raises:
            PlainTextError: the client does not speak TLS, but probably HTTP.
            trio.BrokenResourceError: the client does not speak TLS, or not as the context wants.
        """
        is_first = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                while (received := super().receive_nowait()) is None:
                    await trio.lowlevel.wait_readable(self.sock)
                if is_first and received[:1].isalpha():  # no record of TLS begins so, but each method does
                    raise PlainTextError(received) from None
                is_first = False
                self._take_in(received)
            except ssl.SSLError as exc:
                await self._flush()  # the alert says why
                raise self._broken("the TLS handshake failed") from exc
            else:
                await self._flush()
                return

    def receive_nowait(self, most: int = CHUNK) -> bytes | None:
        if self._is_over:
            return super().receive_nowait(most)
        while (data := self._decrypted(most)) is None:
            received = super().receive_nowait(CHUNK)
            if received is None:
                return None
            self._take_in(received)
        return data

    async def receive(self, most: int = CHUNK) -> bytes:
        if self._is_over:
            return await super().receive(most)
        await trio.lowlevel.checkpoint_if_cancelled()
        if (data := self.receive_nowait(most)) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()  # a client may send a record for each byte
        while data is None:
            await self._flush()  # what TLS itself has to send, such as new keys
            await trio.lowlevel.wait_readable(self.sock)
            data = self.receive_nowait(most)
        return data

    def _take_in(self, received: bytes) -> None:
        self.at_end = False  # the end that counts is that of the decrypted data
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def _decrypted(self, most: int) -> bytes | None:
        try:
            data = self._tls.read(most)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            data = b""
        except ssl.SSLError as exc:
            raise self._broken("the client broke the TLS connection") from exc
        self.at_end = not data
        return data

    async def send(self, pieces: list[bytes | memoryview], *, more: bool = False) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        for portion in _portions(pieces):
            try:
                self._tls.write(portion)
            except ssl.SSLError as exc:
                raise self._broken("the client broke the TLS connection") from exc
            await self._flush(more=more)

    async def send_file(self, fd: int, start: int, stop: int, on_sent: Callable[[int], None]) -> None:
        while start < stop:
            end = min(start + _PORTION, stop)
            data = read_cached(fd, start, end) or await trio.to_thread.run_sync(os.pread, fd, end - start, start)
            if not data:
                raise EOFError(f"the file ended at byte {start}, {stop - start} bytes before it should")
            await self.send([data])
            on_sent(len(data))
            await trio.lowlevel.checkpoint()
            start += len(data)

    async def _flush(self, *, more: bool = False) -> None:
        """Send what has been encrypted; a reading and a writing task take turns."""
        if not self._outgoing.pending:
            return
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            if data := self._outgoing.read():
                await super().send([data], more=more)
        finally:
            self._sending.release()

    async def end(self) -> None:
        """End our direction."""
        self._send_close_notify()
        await self._flush()
        await super().end()

    async def linger(self, patience: Patience) -> None:
        self._send_close_notify()
        await self._flush()
        self._is_over = True
        await super().linger(patience)

    def _send_close_notify(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the client's close_notify is not waited for; or there was no handshake

    def close(self) -> None:
        if not self._is_over and self.sock.fileno() != -1 and not self._sending.locked():
            self._send_close_notify()
            try:
                self.sock.send(self._outgoing.read())
            except OSError:
                pass  # a client that reads nothing is not waited for
        self._close()


def _portions(pieces: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield what to encrypt at once: small pieces joined, large ones in parts."""
    if sum(map(len, pieces)) <= _PORTION:
        if joined := b"".join(pieces):
            yield joined
        return
    for piece in pieces:
        for start in range(0, len(piece), _PORTION):
            yield memoryview(piece)[start : start + _PORTION]
