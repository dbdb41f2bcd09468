"""TLS over one connected socket, with the socket's timeouts.

Rule 1: at most 64 KiB of encrypted data are held in memory: a piece is encrypted once the last one has been sent.
Rule 2: closing the connection normally sends close_notify, without waiting for the client's; resetting it does not, so
    that the client can tell that its response is incomplete (R13).
Rule 3: a client may close its sending side without close_notify: the framing says whether its request is complete.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Sequence

import trio

from trioflow.http.wire.limits import Patience, RequestError
from trioflow.http.wire.socket import CHUNK, SocketTransport
from trioflow.io.page_cache import read_cached

_PORTION = 65536  # bytes encrypted at once


class PlainTextError(RequestError):
    """A request without TLS on a TLS connection; `received` is the part of it that has arrived."""

    def __init__(self, received: bytes) -> None:
        super().__init__(400, "the client does not use TLS")
        self.received = received


class TlsTransport(SocketTransport):
    """The server side of TLS over a socket. Call `shake_hands` first.

    Args:
        plain: The transport of the socket, which must not be used after this.
        context: The server's SSL context.
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
        self._is_over = False  # close_notify is sent: what still arrives is discarded without decrypting it

    async def shake_hands(self) -> None:
        """Do the TLS handshake.

        Raises:
            PlainTextError: the client sends something that looks like HTTP without TLS.
            trio.BrokenResourceError: the handshake failed.
        """
        is_first = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                while (received := super().receive_nowait()) is None:
                    await trio.lowlevel.wait_readable(self.sock)
                if is_first and received[:1].isalpha():  # a method starts with a letter, a TLS record never does
                    raise PlainTextError(received) from None
                is_first = False
                self._take_in(received)
            except ssl.SSLError as exc:
                await self._flush()  # sends an alert that says why
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
            # A client may send one byte per record, and then the loop would never yield.
            await trio.lowlevel.cancel_shielded_checkpoint()
        while data is None:
            await self._flush()  # messages of TLS itself, such as new keys
            await trio.lowlevel.wait_readable(self.sock)
            data = self.receive_nowait(most)
        return data

    def _take_in(self, received: bytes) -> None:
        self.at_end = False  # only the end of the decrypted data counts
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

    async def send(self, pieces: Sequence[bytes | memoryview], *, more: bool = False) -> None:
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
        """Send what has been encrypted; a lock keeps a reading and a writing task from sending at once."""
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
        """Close our sending side."""
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
            pass  # the client's close_notify has not arrived, or there was no handshake

    def close(self) -> None:
        if not self._is_over and self.sock.fileno() != -1 and not self._sending.locked():
            self._send_close_notify()
            try:
                self.sock.send(self._outgoing.read())
            except OSError:
                pass  # do not wait for a client that reads nothing
        self._close()


def _portions(pieces: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield portions to encrypt: small pieces joined, large ones in parts."""
    if sum(map(len, pieces)) <= _PORTION:
        if joined := b"".join(pieces):
            yield joined
        return
    for piece in pieces:
        for start in range(0, len(piece), _PORTION):
            yield memoryview(piece)[start : start + _PORTION]
