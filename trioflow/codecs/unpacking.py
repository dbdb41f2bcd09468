"""What all decompressors share, whatever the library.

Rule 1: how the input is cut into chunks changes no result and no error.
Rule 2: output is made piece by piece, as it is asked for, so that a decompression bomb does not fill the memory.
Rule 3: an input that ends early raises `EOFError` (R10).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from trioflow._core.checks import check_kinds
from trioflow._core.fused import Operator

# The most output at once. With 64 KiB it takes 15 % longer to decompress a log into a file.
PIECE: Final = 1 << 18
# After each piece, zlib copies the input that it has not read yet. So a chunk of 1 MiB that inflates to 1 GiB takes half as
# long again if zlib gets it whole. For logs it makes no difference.
PORTION: Final = 1 << 16


class Step(NamedTuple):
    """The result of one call to a library."""

    piece: bytes  # at most `PIECE` bytes of output
    rest: Any  # the input that was not read
    has_ended: bool  # whether the member ends with this piece
    has_more: bool  # whether there is more output without more input


class Unpacker(Operator[Any, bytes], ABC):
    """Decompresses one member, frame or stream, or several one after another, into pieces."""

    name: str  # of the operator
    what: str  # what the input consists of, such as "gzip member"
    header: str  # what even the smallest input has, such as "gzip header"
    is_one = False  # whether the input is a single member

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._given = 0
        self.members = 0  # how many have begun
        self._is_inside = False  # whether one has begun and not ended

    @abstractmethod
    def begin(self, data: Any) -> Any:
        """Begin a member with the first bytes of `data`. Return its data, or nothing if it is only padding."""

    @abstractmethod
    def step(self, data: Any) -> Step:
        """Decompress one piece of the current member."""

    def feed(self, items: list[Any]) -> Iterator[bytes]:
        check_kinds(f"{self.name} expects bytes", items)
        return (piece for item in items for portion in portions(item, PORTION) for piece in self._unpack(portion))

    def flush(self) -> tuple[()]:
        if self._is_inside:
            where = f"the {self.what}" if self.is_one else f"{self.what} {self.members}"
            raise EOFError(f"{self.name}: the input ends inside {where}")
        if not self.members:
            raise EOFError(f"{self.name}: the input is empty, not even a {self.header}")
        return ()

    def _unpack(self, data: Any) -> Iterator[bytes]:
        while self._is_inside or (data and (data := self.begin(data))):
            if not self._is_inside:
                self._is_inside = True
                self.members += 1
            piece, data, has_ended, has_more = self.step(data)
            self._is_inside = not has_ended
            self._given += len(piece)
            if self._given > self._limit:
                raise ValueError(f"{self.name}: the output is longer than max_output, {self._limit} bytes")
            if piece:
                yield piece
            if not data and not has_more:
                return


def portions(item: Any, size: int) -> Iterator[memoryview]:
    """Return views of a bytes-like item, each of at most `size` bytes."""
    # A bytearray is copied: while a view of it exists, its owner cannot resize it.
    view = memoryview(bytes(item) if isinstance(item, bytearray) else item).cast("B")
    return (view[start : start + size] for start in range(0, len(view), size))
