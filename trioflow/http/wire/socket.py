"""Sends and receives bytes over one connected socket.

Rule 1: every write has a timeout, and the caller sets one for reads; nothing here is shielded.
Rule 2: if the connection fails, it raises `trio.BrokenResourceError`, with the system's error as its cause.
Rule 3: `cut` resets the connection, so that the client can tell that its response is incomplete (R13); `close` ends it
    normally.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from trioflow._core.adapters import reset_on_close, write_vectored
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.limits import Patience
from trioflow.http.wire.sendfile import PATIENCE, TRIP, is_ready, send_file

if sys.platform == "linux":  # now, because importing needs a free descriptor
    import fcntl
    import termios

CHUNK: Final = 65536  # bytes received at once
_SMALL: Final = 16384  # bytes: a few pieces of this size together are joined, as one buffer is sent in 2 µs less
_FEW: Final = 8
_COPIED: Final = 1 << 18  # bytes received and written at once: they fit into a processor's cache
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


class SocketTransport:
    """A plain TCP or Unix socket.

    Args:
        sock: A connected, non-blocking socket; the transport owns it, and `close` or `cut` closes it.
        stall: The seconds that a write may wait while the client reads nothing.
        rate: The minimum bytes a second that the client must read, measured over `stall` seconds.
        on_loss: Called when the client turns out to have gone.
        counters: Where to count bytes and stalls.
    """

    __slots__ = ("_rate", "_stall", "at_end", "counters", "has_moved", "on_loss", "sock")

    is_plain = True  # not encrypted

    def __init__(
        self,
        sock: socket.socket,
        *,
        stall: float,
        rate: float,
        on_loss: Callable[[], None],
        counters: Counters | None = None,
    ) -> None:
        self.sock = sock
        self._rate = rate
        self._stall = stall
        self.on_loss = on_loss
        self.counters = Counters() if counters is None else counters
        self.at_end = False  # whether the client has closed its sending side
        self.has_moved = True  # set when a byte is received or sent; `is_quiet` of the connection clears it

    def _broken(self, reason: str) -> trio.BrokenResourceError:
        self.on_loss()
        return trio.BrokenResourceError(reason)

    def receive_nowait(self, most: int = CHUNK) -> bytes | None:
        """Return the bytes that have arrived: None if there are none yet, `b""` at the end."""
        try:
            data = self.sock.recv(most)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            raise self._broken("the client broke the connection") from exc
        if not data:
            self.at_end = True
        self.counters.received += len(data)
        self.has_moved = True
        return data

    async def receive(self, most: int = CHUNK) -> bytes:
        """Wait for bytes and return them; `b""` at the end."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            if (data := self.receive_nowait(most)) is not None:
                return data

    async def copy(self, most: int, chunks: list[bytes], write: Callable[[bytes | memoryview], object]) -> int:
        """Pass `chunks` to `write`, then up to `most` bytes that arrive soon, without a pause; return how many arrived.

        One thread does all of it, so what it receives is still in the processor's cache when it is written: 1 GiB takes
        half the CPU time that it takes through a channel.
        """
        count, failure = await trio.to_thread.run_sync(_copy, self.sock, most, chunks, write)
        self.counters.received += count
        self.has_moved = True
        if failure is not None:
            raise self._broken("the client broke the connection") from failure
        return count

    async def send(self, pieces: Sequence[bytes | memoryview], *, more: bool = False) -> None:
        """Send all of `pieces` in few TCP segments; with `more`, data that follows at once may share the last segment.

        Waits when: the client reads nothing, for at most `stall` seconds without progress.
        On cancel: an unknown part has been sent.

        Raises:
            trio.BrokenResourceError: the client has gone, or read too little for too long.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        left = self.send_nowait(pieces, more=more)
        while left:
            await self.wait_writable()
            left = self.send_nowait(left, more=more)

    def send_nowait(self, pieces: Sequence[bytes | memoryview], *, more: bool = False) -> Sequence[bytes | memoryview]:
        """Send as much of `pieces` as can be sent without waiting, as they are, and return the rest; raises as `send` does."""
        flags = _MORE if more else 0
        if 1 < len(pieces) <= _FEW and sum(map(len, pieces)) <= _SMALL:
            pieces = [b"".join(pieces)]
        left = pieces
        try:
            while left:
                if len(left) > 1:
                    left = deque(left)
                    sent = write_vectored(lambda first: self.sock.sendmsg(first, (), flags), left)
                else:
                    [data] = left
                    sent = self.sock.send(data, flags)
                    left = () if sent == len(data) else (memoryview(data)[sent:],)
                self.counters.sent += sent
                self.has_moved = True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            raise self._broken("the client broke the connection") from exc
        return left

    async def send_file(self, fd: int, start: int, stop: int, on_sent: Callable[[int], None]) -> None:
        """Send a range of an open file, and call `on_sent` with the size of each part that was sent.

        Waits and raises as `send` does; also raises `EOFError` if the file has become shorter.
        """

        def count(sent: int) -> None:
            self.counters.sent += sent
            self.has_moved = True
            on_sent(sent)

        try:
            await send_file(self.sock, fd, start, stop, self.wait_writable, count)
        except (ConnectionError, TimeoutError) as exc:
            raise self._broken("the client broke the connection") from exc

    async def wait_writable(self) -> None:
        """Wait until the client has read something; raise as `send` does if it reads too little for too long."""
        before = unsent(self.sock)
        while True:
            with trio.move_on_after(self._stall):
                await trio.lowlevel.wait_writable(self.sock)
                return
            after = unsent(self.sock)
            # Over a slow line, a large buffer may take longer to have room again, although the client is reading.
            if before - after < max(1, self._rate * self._stall):
                self.counters.stalls += 1
                raise self._broken(f"the client read only {max(0, before - after)} bytes in {self._stall:g} seconds")
            before = after

    async def end(self) -> None:
        """Close our sending side.

        Raises:
            trio.BrokenResourceError: the client has gone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._broken("the client broke the connection") from exc

    async def linger(self, patience: Patience) -> None:
        """Close our sending side and discard what still arrives, so that the client can read our response first.

        Closing a connection with unread bytes resets it, and a reset discards what the client has not read yet (RFC
        9112 9.6).
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        try:
            while not self.at_end:
                began, data = trio.current_time(), None
                with trio.move_on_after(patience.left):
                    data = await self.receive()
                if data is None:
                    return
                patience.regain(len(data), trio.current_time() - began)
        except trio.BrokenResourceError:
            return

    def close(self) -> None:
        """Close the connection normally. You can call it more than once."""
        self._close()

    def _close(self) -> None:
        if self.sock.fileno() != -1:
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()

    def cut(self) -> None:
        """Reset the connection, so that partial data never passes for complete (R13)."""
        if self.sock.fileno() != -1:
            reset_on_close(self.sock)
            self._close()


def _copy(
    sock: socket.socket, most: int, chunks: list[bytes], write: Callable[[bytes | memoryview], object]
) -> tuple[int, OSError | None]:
    """Receive and write for `copy`. An error of `write` is raised, an error of the socket is returned."""
    for chunk in chunks:
        write(chunk)
    count, until = 0, time.perf_counter() + TRIP
    buffer = memoryview(bytearray(min(most, _COPIED)))
    while count < most and time.perf_counter() < until:
        try:
            received = sock.recv_into(buffer[: most - count])
        except (BlockingIOError, InterruptedError):
            if not is_ready(sock.fileno(), select.POLLIN, PATIENCE):
                break
            continue
        except OSError as exc:
            return count, exc
        if not received:
            break  # the next `receive` sees the end again, and tells whether it is too early
        write(buffer[:received])
        count += received
    return count, None


def unsent(sock: socket.socket) -> int:
    """Return how many bytes the client has not yet acknowledged; 0 if the system does not say."""
    return _queued(sock, "TIOCOUTQ")


def unread(sock: socket.socket) -> int:
    """Return how many bytes have arrived and are not yet received; 0 if the system does not say."""
    return _queued(sock, "FIONREAD")


def _queued(sock: socket.socket, request: str) -> int:
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock, getattr(termios, request), bytes(4)), sys.byteorder)
    except OSError:  # not every kind of socket supports it
        return 0
