"""A body whose length the head told: nothing in it needs a parser (RFC 9112 6.3). No I/O.

Rule 1: not a byte more is asked for than belongs to the body: what follows is the next request's.
Rule 2: what comes is handed on as it came, uncopied.
"""

from __future__ import annotations

from typing import Final

from trioflow.http.wire.limits import RequestError
from trioflow.http.wire.socket import CHUNK


class Counted:
    """A body of so many bytes.

    Args:
        length: How many.
        ahead: What has come behind the head.

    Attributes:
        left: Bytes that have not come yet.
        behind: What has come and is no more of this body.
    """

    __slots__ = ("_chunks", "behind", "left")

    # Bytes to receive between two yields: a chunk costs 25 µs on its way to a file if it goes alone, 10 µs in company.
    at_once: Final = 1 << 18

    def __init__(self, length: int, ahead: bytes = b"") -> None:
        self.left = length
        self.behind = ahead[length:]
        self._chunks: list[bytes] = []
        if chunk := ahead[:length]:
            self.feed(chunk)

    @property
    def is_read(self) -> bool:
        """Whether all of it has come and was taken."""
        return not (self.left or self._chunks)

    @property
    def most(self) -> int:
        """How many bytes to receive next, at most."""
        return min(self.left, CHUNK)

    def feed(self, data: bytes) -> None:
        """Add what has been received, `most` bytes or fewer.

        Raises:
            RequestError: nothing has: the client has ended its direction too early.
        """
        if not data:
            raise RequestError(400, f"the body ended {self.left} bytes before its Content-Length")
        self.left -= len(data)
        self._chunks.append(data)

    def take(self) -> list[bytes]:
        """Give what has come since the last time."""
        chunks, self._chunks = self._chunks, []
        return chunks
