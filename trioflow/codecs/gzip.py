"""Compress and decompress gzip and deflate, with zlib. With isal installed, it does all but reading deflate.

Rule 1: how the input is cut into chunks changes no result and no error.
Rule 2: an input that ends early raises `EOFError` (R10), a damaged one `gzip.BadGzipFile` or `zlib.error`.
"""

from __future__ import annotations

import math
import zlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from gzip import BadGzipFile
from struct import pack
from typing import Any, Final

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_flags, check_kinds, check_limit
from trioflow._core.makers import differing, fused, task
from trioflow._core.streams import Transform
from trioflow.codecs.parallel_deflate import Deflater, Library, isal
from trioflow.codecs.unpacking import PIECE, Step, Unpacker

LEVEL: Final = 6


@dataclass(frozen=True)
class _Format:
    """What wraps a deflated stream: zlib's `wbits` for it, the size of the header, and how to make the trailer."""

    window: int
    head: int
    checksum: Callable[[bytes, int], int]
    end: Callable[[Deflater], bytes]


_GZIP: Final = _Format(16 + zlib.MAX_WBITS, 10, zlib.crc32, lambda done: pack("<II", done.checksum, done.size % 2**32))
_ZLIB: Final = _Format(zlib.MAX_WBITS, 2, zlib.adler32, lambda done: pack(">I", done.checksum))
_RAW: Final = _Format(-zlib.MAX_WBITS, 0, lambda _, before: before, lambda _: b"")


def gzip(*, level: int = LEVEL, flush: bool = False, library: Library = "fastest") -> Transform[bytes, bytes]:
    """Compress into one gzip member. The same input gives the same output, as the header contains no time.

    Blocks of 128 KiB are compressed in threads, as many at once as there are processors, so Trio's loop is not blocked.

    With `trioflow[isal]` installed, isal does levels 1 to 6: several times as fast at level 6, for output that is 9 percent
    larger (measured on a log). Its bytes differ from zlib's, and may differ between machines; every gzip reader reads them.

    Emits when: a block of input is complete; a small chunk is not emitted at once.
    Waits when: downstream is not ready.
    Ends when: the source ends, after the rest and the checksum; without input it emits an empty member.
    On cancel: waits some milliseconds for the blocks being compressed, and drops them; the output is a truncated member.
    Holds: an unfinished block, one batch and its output, and 256 KiB for zlib for each processor.

    Args:
        level: From 1, the fastest, to 9, the smallest; 0 stores without compressing.
        flush: Emit all that has arrived at once, for a live stream, so that a reader can decompress it up to there.
            Chunks that arrive together are compressed together; small chunks on their own cost 5 bytes more each, and
            compress less.
        library: `"zlib"` compresses with Python's own zlib even if isal is installed, for bytes that must not change.

    Raises:
        TypeError: `level` is not an int, or `flush` is not a bool; a chunk is not bytes-like.
        ValueError: `level` is not from 0 to 9, or `library` is neither `"fastest"` nor `"zlib"`.

    Example:
        >>> packed = run(from_iterable([b"a", b"b"]).pipe(gzip()).pipe(join()))
        >>> run(from_iterable(packed).pipe(gunzip()).pipe(join()))
        b'ab'
    """
    check_count("level", level, 0, 9)
    check_flags(flush=flush)
    given = differing(level=(level, LEVEL), flush=(flush, False), library=(library, "fastest"))
    return _packing("gzip", level, _GZIP, library, given)


def deflate(*, level: int = LEVEL, raw: bool = False, library: Library = "fastest") -> Transform[bytes, bytes]:
    """Compress into one zlib stream, which HTTP calls deflate: gzip with a smaller header and trailer.

    Blocks of 128 KiB are compressed in threads, as many at once as there are processors, so Trio's loop is not blocked.
    `trioflow[isal]` makes it faster, and the output larger, as for `gzip`.

    Emits when: a block of input is complete; a small chunk is not emitted at once.
    Waits when: downstream is not ready.
    Ends when: the source ends, after the rest and the checksum; without input it emits an empty stream.
    On cancel: waits some milliseconds for the blocks being compressed, and drops them; the output is a truncated stream.
    Holds: an unfinished block, one batch and its output, and 256 KiB for zlib for each processor.

    Args:
        level: From 1, the fastest, to 9, the smallest; 0 stores without compressing.
        raw: Leave out the header and the checksum.
        library: `"zlib"` compresses with Python's own zlib even if isal is installed, for bytes that must not change.

    Raises:
        TypeError: `level` is not an int, or `raw` is not a bool; a chunk is not bytes-like.
        ValueError: `level` is not from 0 to 9, or `library` is neither `"fastest"` nor `"zlib"`.

    Example:
        >>> packed = run(from_iterable([b"a", b"b"]).pipe(deflate()).pipe(join()))
        >>> run(from_iterable(packed).pipe(inflate()).pipe(join()))
        b'ab'
    """
    check_count("level", level, 0, 9)
    made = _format(raw)
    given = differing(level=(level, LEVEL), raw=(raw, False), library=(library, "fastest"))
    return _packing("deflate", level, made, library, given)


def _format(raw: bool) -> _Format:  # noqa: FBT001 - the name says it
    check_flags(raw=raw)
    return _RAW if raw else _ZLIB


def _packing(
    name: str, level: int, made: _Format, library: Library, given: dict[str, object]
) -> Transform[bytes, bytes]:
    if library not in ("fastest", "zlib"):
        raise ValueError(f"{name}: library must be 'fastest' or 'zlib', got {library!r}")

    async def run(source: ReceiveChannel[bytes], output: SendChannel[bytes]) -> None:
        deflater = Deflater(level, made.checksum, library)
        head = zlib.compressobj(level, zlib.DEFLATED, made.window).flush()[: made.head]
        async for chunks in source.batches():
            check_kinds(f"{name} expects bytes", chunks)
            packed = await deflater.feed(chunks)
            if given.get("flush") and (rest := await deflater.flush()):
                packed.append(rest)
            if packed:
                packed[0] = head + packed[0]
                head = b""
                await output.send_many(packed)
        await output.send(head + await deflater.finish() + made.end(deflater))

    return task(run, name, **given)


def gunzip(*, max_output: float = math.inf) -> Transform[bytes, bytes]:
    """Decompress gzip, one member or several one after another. Zeros after a member are skipped, as `gzip` does.

    With `trioflow[isal]` installed, isal does it, about twice as fast.

    Emits when: there is output: pieces of at most 256 KiB, made as downstream has room for them.
    Waits when: downstream is not ready, even in the middle of a chunk.
    Ends when: the source ends.
    On cancel: unread output is lost.
    Holds: 64 KiB for zlib, one batch of chunks, and the pieces that are emitted together, 1 MiB at most.

    Args:
        max_output: The most bytes to emit in all; `math.inf` for no limit. Set a limit for untrusted input: one
            byte of gzip can expand to 1,000.

    Raises:
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside a member, or is empty.
        gzip.BadGzipFile: the input is not gzip, is damaged, or continues after its last member.

    Example:
        >>> import gzip as python_gzip
        >>> packed = python_gzip.compress(b"a") + python_gzip.compress(b"b")
        >>> run(from_iterable(packed).pipe(gunzip()).pipe(join()))
        b'ab'
    """
    limit = check_limit("max_output", max_output)
    return fused(lambda: _Gunzip(limit), "gunzip", **differing(max_output=(max_output, math.inf)))


class _Zlib(Unpacker):
    """What `gunzip` and `inflate` share. `_inflater` belongs to the current member."""

    _inflater: Any
    _error: type[Exception] = zlib.error

    def step(self, data: Any) -> Step:
        inflater = self._inflater
        try:
            piece: bytes = inflater.decompress(data, PIECE)
        except self._error as exc:
            raise self._wrong(str(exc)) from exc
        if inflater.eof:
            return Step(piece, inflater.unused_data, has_ended=True, has_more=False)
        # After a full piece zlib may hold more output of what it has read.
        return Step(piece, inflater.unconsumed_tail, has_ended=False, has_more=len(piece) == PIECE)

    @abstractmethod
    def _wrong(self, complaint: str) -> Exception:
        """Return our error for zlib's message, such as "Error -3 while ...: incorrect header check"."""


# zlib's texts for the errors of isal, by their numbers: "Error -6 Incorrect checksum found".
_ISAL_ERRORS: Final = {
    "-1": "invalid block type",
    "-2": "invalid literal/length code",
    "-3": "invalid distance too far back",
    "-5": "unknown compression method",
    "-6": "incorrect data check",
}


class _Gunzip(_Zlib):
    name, what, header = "gunzip", "gzip member", "gzip header"

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self._library = isal() or zlib
        self._error = self._library.error
        self._head = b""  # the first bytes of the member, up to its flags

    def begin(self, data: Any) -> Any:
        if self.members and data[:1] == b"\0":
            data = bytes(data).lstrip(b"\0")
        if not data:
            return b""
        if data[:1] != b"\x1f":
            raise self._not_gzip(self.members)
        self._inflater = self._library.decompressobj(_GZIP.window)
        self._head = b""
        return data

    def step(self, data: Any) -> Step:
        if len(self._head) < 4:  # isal checks a header only when it is complete, and ignores the reserved flags
            self._head += bytes(data[: 4 - len(self._head)])
            if self._head[1:2] not in (b"", b"\x8b"):
                raise self._not_gzip(self.members - 1)
            if self._head[:3] == b"\x1f\x8b\x08" and self._head[3:] >= b"\x20":
                raise self._damaged("unknown header flags set")
        return super().step(data)

    def _wrong(self, complaint: str) -> Exception:
        reason = complaint.rpartition(": ")[2]
        if self._library is not zlib:
            reason = _ISAL_ERRORS.get(complaint.split()[1], complaint)
        return self._damaged(reason)

    def _damaged(self, reason: str) -> BadGzipFile:
        return BadGzipFile(f"gunzip: gzip member {self.members} is damaged: {reason}")

    def _not_gzip(self, members: int) -> BadGzipFile:
        return BadGzipFile(
            f"gunzip: garbage after gzip member {members}" if members else "gunzip: the input is not gzip"
        )


def inflate(*, raw: bool = False, dictionary: bytes = b"", max_output: float = math.inf) -> Transform[bytes, bytes]:
    """Decompress one zlib stream, such as `deflate` writes.

    Emits when: zlib has output: pieces of at most 256 KiB, made as downstream has room for them.
    Waits when: downstream is not ready, even in the middle of a chunk.
    Ends when: the source ends.
    On cancel: unread output is lost.
    Holds: 64 KiB for zlib, one batch of chunks, and the pieces that are emitted together, 1 MiB at most.

    Args:
        raw: Whether the stream has no header and no checksum.
        dictionary: The preset dictionary that the stream was made with, if any (RFC 1950 2.2).
        max_output: The most bytes to emit in all; `math.inf` for no limit. Set a limit for untrusted input.

    Raises:
        TypeError: `raw` is not a bool, `dictionary` is not bytes-like, or `max_output` is neither an int nor `math.inf`; a
            chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside the stream, or is empty.
        zlib.error: the input is not zlib, is damaged, continues after its end, or needs another `dictionary`.

    Example:
        >>> import zlib
        >>> run(from_iterable(zlib.compress(b"abc")).pipe(inflate()).pipe(join()))
        b'abc'
    """
    window = _format(raw).window
    limit = check_limit("max_output", max_output)
    check_kinds("inflate: dictionary must be bytes", [dictionary])
    given = differing(raw=(raw, False), dictionary=(dictionary, b""), max_output=(max_output, math.inf))
    return fused(lambda: _Inflate(limit, window, bytes(dictionary)), "inflate", **given)


class _Inflate(_Zlib):
    name, what, header, is_one = "inflate", "zlib stream", "zlib header", True

    def __init__(self, limit: float, window: int, dictionary: bytes) -> None:
        super().__init__(limit)
        self._window = window
        self._dictionary = dictionary

    def begin(self, data: Any) -> Any:
        if self.members:
            raise zlib.error("inflate: garbage after the zlib stream")
        options = {"zdict": self._dictionary} if self._dictionary else {}
        self._inflater = zlib.decompressobj(self._window, **options)
        return data

    def _wrong(self, complaint: str) -> Exception:
        reason = complaint.rpartition(": ")[2]
        if reason == "incorrect header check":
            return zlib.error("inflate: the input is not zlib")
        if complaint.startswith("Error 2 "):  # Z_NEED_DICT
            return zlib.error("inflate: the zlib stream needs a preset dictionary; pass it as dictionary=")
        if "setting zdict" in complaint:
            return zlib.error("inflate: the zlib stream was made with a different dictionary")
        return zlib.error(f"inflate: the zlib stream is damaged: {reason}")
