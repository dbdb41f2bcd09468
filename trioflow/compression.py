"""gzip, both ways, on zlib.

Rule 1: how the input is cut into chunks changes nothing.
Rule 2: what a small input inflates to is given piece by piece, and made when it is asked for: a bomb fills no memory.
Rule 3: an input that ends early is an `EOFError` (R10), one that is wrong a `gzip.BadGzipFile`, never a shrug.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from typing import Any, Final

from trioflow._checks import check_count, check_limit
from trioflow._engine import Stage
from trioflow._streams import Transform, label
from trioflow._sync import Operator

PIECE: Final = 65536  # the most bytes that gunzip makes at once
# zlib copies what it has not read yet each time it has made a piece: a chunk of 1 MiB that inflates to 1 GiB takes
# 0.70 s when zlib is given it whole, 0.49 s in portions of this many bytes; for logs there is no difference.
PORTION: Final = 16384
_GZIP: Final = 16 + zlib.MAX_WBITS  # how zlib is told of a gzip header and trailer


def _refuse_others(name: str, items: list[Any]) -> None:
    """Raise if one of `items` is not bytes-like. Its value may be large: its type alone is told."""
    for kind in set(map(type, items)):
        if not issubclass(kind, (bytes, bytearray, memoryview)):
            raise TypeError(f"{name} wants bytes, not {kind.__name__}")


def gzip(*, level: int = 6) -> Transform[bytes, bytes]:
    """Compress into one gzip member. The same input gives the same output: no time stands in its header.

    Emits when: zlib has gathered enough, some tens of KiB of input; a small chunk does not come out at once.
    Waits when: its reader does.
    Ends when: the source ends, behind the rest and the checksum; no input gives an empty member.
    On cancel: what was gathered is lost, and what came out is a cut member.
    Holds: 256 KiB for zlib, and one batch.

    Args:
        level: From 1, the fastest, to 9, the smallest; 0 stores without compressing.

    Raises:
        TypeError: `level` is not an int; a chunk is not bytes-like.
        ValueError: `level` is not 0 to 9.

    Example:
        >>> packed = run(from_iterable([b"a", b"b"]).pipe(gzip()).pipe(join()))
        >>> run(from_iterable(packed).pipe(gunzip()).pipe(join()))
        b'ab'
    """
    if check_count("level", level, 0) > 9:
        raise ValueError(f"level must be 9 or less, not {level}")
    given = {} if level == 6 else {"level": level}
    return Transform[bytes, bytes].of(Stage(label("gzip", **given), factory=lambda: _Gzip(level)))


class _Gzip(Operator[Any, bytes]):
    def __init__(self, level: int) -> None:
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

    def feed(self, items: list[Any]) -> list[bytes]:
        _refuse_others("gzip", items)
        compress = self._compressor.compress
        return [packed for chunk in items if (packed := compress(chunk))]

    def flush(self) -> list[bytes]:
        return [self._compressor.flush()]


def gunzip(*, max_output: float = math.inf) -> Transform[bytes, bytes]:
    """Decompress gzip, one member or several behind each other; zeros behind the last one are skipped, as `gzip` does.

    Emits when: zlib has inflated something: pieces of at most 64 KiB, made as the reader has room for them.
    Waits when: its reader does, be it in the middle of a chunk.
    Ends when: the source ends.
    On cancel: what was not read is lost.
    Holds: 64 KiB for zlib, one batch of chunks, and the pieces that go out together: 256 at most, fewer where a few
        take milliseconds to make.

    Args:
        max_output: The most bytes to give in all; `math.inf` for no limit. For input from strangers set one: gzip
            makes up to 1,000 bytes of one.

    Raises:
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside a member, or is empty (R10).
        gzip.BadGzipFile: the input is not gzip, is damaged, or goes on behind its last member.

    Example:
        >>> import gzip as python_gzip
        >>> packed = python_gzip.compress(b"a") + python_gzip.compress(b"b")
        >>> run(from_iterable(packed).pipe(gunzip()).pipe(join()))
        b'ab'
    """
    limit = check_limit("max_output", max_output)
    given = {} if limit == math.inf else {"max_output": limit}
    return Transform[bytes, bytes].of(Stage(label("gunzip", **given), factory=lambda: _Gunzip(limit)))


class _Gunzip(Operator[Any, bytes]):
    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._given = 0
        self._members = 0  # how many have begun
        self._inflater: Any = None  # of the member that has begun and not ended
        self._is_padded = False  # whether zeros have come behind a member: nothing else may follow

    def feed(self, items: list[Any]) -> Iterator[bytes]:
        _refuse_others("gunzip", items)
        return (piece for item in items for portion in _portions(item) for piece in self._inflate(portion))

    def flush(self) -> tuple[()]:
        if self._inflater is not None:
            raise EOFError(f"gunzip: the input ends inside gzip member {self._members}")
        if not self._members:
            raise EOFError("gunzip: the input is empty, not even a gzip header")
        return ()

    def _inflate(self, data: Any) -> Iterator[bytes]:
        while self._inflater is not None or (data := self._begin(data)):
            piece, data = self._step(data)
            if piece:
                yield piece
            if not data and len(piece) < PIECE:  # or else zlib may hold more, of what it has read
                return

    def _begin(self, data: Any) -> Any:
        """Begin a member and give its data; nothing where `data` is but padding."""
        if self._members and data[:1] == b"\0":
            self._is_padded = True
        if self._is_padded:
            data = bytes(data).lstrip(b"\0")
        if not data:
            return b""
        if self._is_padded or data[:1] != b"\x1f":
            raise self._not_gzip(self._members)
        self._members += 1
        self._inflater = zlib.decompressobj(_GZIP)
        return data

    def _step(self, data: Any) -> tuple[bytes, bytes]:
        """Inflate one piece, and give what is left of `data` too."""
        inflater = self._inflater
        try:
            piece: bytes = inflater.decompress(data, PIECE)
        except zlib.error as exc:
            reason = str(exc).rpartition(": ")[2]
            if reason == "incorrect header check":
                raise self._not_gzip(self._members - 1) from exc
            raise BadGzipFile(f"gunzip: gzip member {self._members} is damaged: {reason}") from exc
        self._given += len(piece)
        if self._given > self._limit:
            raise ValueError(f"gunzip: the output is longer than max_output, {self._limit} bytes")
        if inflater.eof:
            self._inflater = None
            return piece, inflater.unused_data
        return piece, inflater.unconsumed_tail

    def _not_gzip(self, members: int) -> BadGzipFile:
        return BadGzipFile(f"gunzip: garbage follows gzip member {members}" if members else "gunzip: this is not gzip")


def _portions(item: Any) -> Iterator[Any]:
    # A bytearray is copied: a view would forbid its owner to change its size.
    view = memoryview(bytes(item) if isinstance(item, bytearray) else item).cast("B")
    return (view[start : start + PORTION] for start in range(0, len(view), PORTION))
