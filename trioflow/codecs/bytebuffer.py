"""Bytes fed at one end and taken at the other, without I/O: the heart of every framing.

Rule 1: work is linear in what is fed and put back, however it was cut: a delimiter is looked for in what is new only.
Rule 2: it holds at most `limit` bytes, and where bytes are put back as many unused ones.
Rule 3: nothing is taken by a call that gives `None`: feed more and ask again.
"""

from __future__ import annotations

import math
from typing import Final

from trioflow._core.checks import check_count, check_limit

SLACK: Final = 65536  # bytes taken that may stand before what is held, to be put back at no cost


class ByteBuffer:
    r"""A queue of bytes: feed chunks at one end; take exactly, take until, peek and put back at the other.

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
        self._start = 0  # of what is held: what stands before it was taken
        self._wanted = b""  # the delimiter that was looked for last, in vain,
        self._looked = 0  # in so many bytes of what is held

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Put a chunk behind what is held.

        Raises:
            TypeError: `chunk` is not bytes-like.
            BufferError: it would hold more than its limit; nothing of `chunk` is held then.
        """
        self._admit(chunk)
        self._data += chunk

    def put_back(self, data: bytes | bytearray | memoryview) -> None:
        """Put bytes before what is held: they are taken next. Raises as `feed` does."""
        count = self._admit(data)
        if count > self._start:
            # Room for as much again: putting back byte by byte would else move all that is held each time.
            room = count + len(self)
            self._data[: self._start] = bytes(room)
            self._start = room
        self._data[self._start - count : self._start] = data
        self._start -= count
        self._wanted = b""

    def take(self, count: int) -> bytes | None:
        """Take exactly `count` bytes, or `None` while fewer are held."""
        if check_count("count", count, 0) > len(self):
            return None
        with memoryview(self._data) as view:
            taken = bytes(view[self._start : self._start + count])
        self._skip(count)
        return taken

    def take_all(self) -> bytes:
        """Take all that is held."""
        taken = self.peek()
        self._skip(len(taken))
        return taken

    def take_until(self, delimiter: bytes, *, max_length: float = math.inf) -> bytes | None:
        """Take what stands before `delimiter`, and drop the delimiter; `None` while that has not come.

        Raises:
            TypeError: `delimiter` is not `bytes`.
            ValueError: it is empty; or what stands before it is longer than `max_length`, which stays where it is.
        """
        if not isinstance(delimiter, bytes):
            raise TypeError(f"take_until expects a delimiter of bytes, got {type(delimiter).__name__}")
        if not delimiter:
            raise ValueError("take_until: the delimiter must not be empty")
        overlap = len(delimiter) - 1  # the most of it that may have come without the rest
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
        """Give the first `count` bytes of what is held, fewer where there are no more, and take none."""
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
            # bytearray gives away its front at no cost but for a copy, of less than was given away, now and then.
            del self._data[: self._start]
            self._start = 0
