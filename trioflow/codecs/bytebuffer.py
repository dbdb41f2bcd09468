"""A queue of bytes without I/O: feed chunks at one end, take exact amounts at the other. Framing is built on it.

Rule 1: work is linear in what is fed and put back, however it was cut: only new bytes are searched for a delimiter.
Rule 2: it holds at most `limit` bytes; once bytes were put back, it may have as many spare bytes allocated.
Rule 3: a call that returns `None` has taken nothing: feed more and ask again.
"""

from __future__ import annotations

import math
from typing import Final

from trioflow._core.checks import check_count, check_limit

# Taken bytes that may stay in memory before the held ones, so that putting them back costs nothing.
SLACK: Final = 65536


class ByteBuffer:
    r"""A queue of bytes: feed chunks at one end, and take, peek at or put back bytes at the other.

    Args:
        limit: The most bytes to hold; `math.inf` for no limit.

    Raises:
        TypeError: `limit` is neither an int nor `math.inf`.
        ValueError: `limit` is below 1.

    Example:
        >>> buffer = ByteBuffer()
        >>> buffer.feed(b"4 data\nmo")
        >>> buffer.take_until(b" "), buffer.take(4), buffer.take(1)
        (b'4', b'data', b'\n')
        >>> buffer.take_until(b" ") is None, len(buffer)
        (True, 2)
    """

    __slots__ = ("_data", "_limit", "_looked", "_start", "_wanted")

    def __init__(self, limit: float = math.inf) -> None:
        self._limit = check_limit("limit", limit)
        self._data = bytearray()
        self._start = 0  # where the held bytes begin; those before were taken
        self._wanted = b""  # the delimiter that the last search did not find
        self._looked = 0  # how many of the held bytes it searched

    def __repr__(self) -> str:
        return f"<ByteBuffer {len(self)} bytes>"

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a chunk.

        Raises:
            TypeError: `chunk` is not bytes-like.
            BufferError: the buffer would exceed its limit; then nothing of `chunk` is kept.
        """
        self._admit(chunk)
        self._data += chunk

    def put_back(self, data: bytes | bytearray | memoryview) -> None:
        """Put bytes back in front, to be taken next. Raises as `feed` does."""
        count = self._admit(data)
        if count > self._start:
            # Make room for as much again. Otherwise putting back byte by byte would move all held bytes each time.
            room = count + len(self)
            self._data[: self._start] = bytes(room)
            self._start = room
        self._data[self._start - count : self._start] = data
        self._start -= count
        self._wanted = b""

    def take(self, count: int) -> bytes | None:
        """Take exactly `count` bytes, or return `None` if fewer are held."""
        if check_count("count", count, 0) > len(self):
            return None
        with memoryview(self._data) as view:
            taken = bytes(view[self._start : self._start + count])
        self._skip(count)
        return taken

    def take_all(self) -> bytes:
        """Take all held bytes."""
        taken = self.peek()
        self._skip(len(taken))
        return taken

    def take_until(self, delimiter: bytes, *, max_length: float = math.inf) -> bytes | None:
        """Take the bytes before `delimiter`, and drop the delimiter. Return `None` if it has not arrived yet.

        Raises:
            TypeError: `delimiter` is not `bytes`.
            ValueError: `delimiter` is empty; or there are more than `max_length` bytes before it, and then none is taken.
        """
        if not isinstance(delimiter, bytes):
            raise TypeError(f"take_until expects a delimiter of bytes, got {type(delimiter).__name__}")
        if not delimiter:
            raise ValueError("take_until: the delimiter must not be empty")
        overlap = len(delimiter) - 1  # at most this much of the delimiter can be here without the rest
        since = max(self._looked - overlap, 0) if delimiter == self._wanted else 0
        place = self._data.find(delimiter, self._start + since)
        length = len(self) - overlap if place < 0 else place - self._start
        if length > max_length:
            raise ValueError(f"there is no {delimiter!r} within max_length, {max_length} bytes")
        if place < 0:
            self._wanted, self._looked = delimiter, len(self)
            return None
        taken = self.take(length)
        self._skip(len(delimiter))
        return taken

    def peek(self, count: float = math.inf) -> bytes:
        """Return the first `count` held bytes, or fewer if there are no more, without taking them."""
        end = len(self._data) if count == math.inf else self._start + check_count("count", count, 0)
        with memoryview(self._data) as view:
            return bytes(view[self._start : end])

    def _admit(self, chunk: object) -> int:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"ByteBuffer expects bytes, got {type(chunk).__name__}")
        count = chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)
        if len(self) + count > self._limit:
            raise BufferError(f"ByteBuffer: {len(self)} bytes held and {count} more exceed the limit of {self._limit}")
        return count

    def _skip(self, count: int) -> None:
        self._start += count
        self._wanted = b""
        if self._start > min(SLACK, len(self)):
            # A bytearray drops its front without copying, except that now and then it copies the rest, which is shorter.
            del self._data[: self._start]
            self._start = 0
