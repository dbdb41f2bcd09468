"""What all decompression has in common, whichever library does it.

Rule 1: how the input is cut into chunks changes nothing.
Rule 2: what a small input unpacks to is given piece by piece, and made when it is asked for: a bomb fills no memory.
Rule 3: an input that ends early is an `EOFError` (R10).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from trioflow._core.checks import check_kinds
from trioflow._core.fused import Operator

# The most bytes that are made at once: with 64 KiB a log takes 15 % more time to be unpacked into a file.
PIECE: Final = 1 << 18
# zlib copies what it has not read yet each time it has made a piece, so that a chunk of 1 MiB which inflates to 1 GiB takes
# half as long again when zlib is given it whole; for logs there is no difference.
PORTION: Final = 1 << 16


class Step(NamedTuple):
    """What one call of a library gave."""

    piece: bytes  # of `PIECE` bytes at most
    rest: Any  # what it has not read
    has_ended: bool  # the member, with this piece
    has_more: bool  # to give, without more input


class Unpacker(Operator[Any, bytes], ABC):
    """Compressed bytes in, pieces out: one member, frame or stream, or several behind each other."""

    name: str  # of the operator
    what: str  # what the input consists of, such as "gzip member"
    header: str  # what even an empty output begins with
    is_one = False  # whether there cannot be several

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._given = 0
        self.members = 0  # how many have begun
        self._is_inside = False  # whether one has begun and not ended

    @abstractmethod
    def begin(self, data: Any) -> Any:
        """Begin a member with the first bytes of `data`, and give its data; nothing where that is but padding."""

    @abstractmethod
    def step(self, data: Any) -> Step:
        """Unpack one piece of the member that has begun."""

    def feed(self, items: list[Any]) -> Iterator[bytes]:
        check_kinds(f"{self.name} expects bytes", items)
        return (piece for item in items for portion in _portions(item) for piece in self._unpack(portion))

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


def _portions(item: Any) -> Iterator[Any]:
    # A bytearray is copied: a view would forbid its owner to change its size.
    view = memoryview(bytes(item) if isinstance(item, bytearray) else item).cast("B")
    return (view[start : start + PORTION] for start in range(0, len(view), PORTION))
