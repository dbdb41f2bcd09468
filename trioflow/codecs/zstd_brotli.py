"""Compress and decompress zstd and brotli. Their libraries are extras, imported when one of these stages is made.

Rule 1: how the input is cut into chunks changes no result and no error.
Rule 2: an input that ends early raises `EOFError` (R10), a damaged one the library's own error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_kinds, check_limit
from trioflow._core.extras import import_extra
from trioflow._core.makers import differing, fused, task
from trioflow._core.streams import Transform
from trioflow.codecs.parallel_deflate import processors
from trioflow.codecs.unpacking import PIECE, Step, Unpacker, portions

ZSTD_LEVEL: Final = 3
BROTLI_LEVEL: Final = 5
_STOP: Final = 1 << 14  # bytes after which brotli stops; it makes 32 KiB or more at once
BLOCK: Final = 1 << 18  # bytes; a trip to a thread takes 0.1 ms, and zstd at level 3 takes 0.6 ms for a block


def zstd(*, level: int = ZSTD_LEVEL) -> Transform[bytes, bytes]:
    """Compress into one zstd frame, smaller than with `gzip`, in a quarter of the time. Needs `trioflow[zstd]`.

    Blocks of 256 KiB are compressed in a thread, so Trio's loop is not blocked.

    Emits when: zstd has gathered enough input, some hundred KiB; a small chunk is not emitted at once.
    Waits when: downstream is not ready.
    Ends when: the source ends, after the rest and the checksum; without input it emits an empty frame.
    On cancel: waits for the block being compressed (1 ms at level 3, half a second at 19), and drops it and all gathered
        input; the output is a truncated frame.
    Holds: what zstd needs for the level (2 MiB at 1, 5 MiB at 3, 90 MiB at 19, 710 MiB at 22), two blocks and one batch.

    Args:
        level: From 1, the fastest, to 22, the smallest.

    Raises:
        ImportError: zstd is not installed.
        TypeError: `level` is not an int; a chunk is not bytes-like.
        ValueError: `level` is not from 1 to 22.

    Example:
        >>> packed = run(from_iterable([b"a", b"b"]).pipe(zstd()).pipe(join()))
        >>> run(from_iterable(packed).pipe(unzstd()).pipe(join()))
        b'ab'
    """
    check_count("level", level, 1, 22)
    library = _zstd_library("zstd")
    parameter = library.CompressionParameter
    options = {parameter.compression_level: level, parameter.checksum_flag: 1}

    def start() -> _Packer:
        compressor = library.ZstdCompressor(options=options)
        return _Packer(compressor.compress, compressor.flush)

    return _packing("zstd", start, differing(level=(level, ZSTD_LEVEL)))


def unzstd(*, max_output: float = math.inf) -> Transform[bytes, bytes]:
    """Decompress zstd, one frame or several one after another. Needs `trioflow[zstd]`.

    Emits when: zstd has output: pieces of at most 256 KiB, made as downstream has room for them.
    Waits when: downstream is not ready, even in the middle of a chunk.
    Ends when: the source ends.
    On cancel: unread output is lost.
    Holds: the window that the frame asks for (at most 128 MiB; levels up to 19 ask for at most 8 MiB), one batch of
        chunks, and the pieces that are emitted together, 1 MiB at most.

    Args:
        max_output: The most bytes to emit in all; `math.inf` for no limit. Set a limit for untrusted input.

    Raises:
        ImportError: zstd is not installed.
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside a frame, or is empty.
        compression.zstd.ZstdError: the input is not zstd, is damaged, or continues after its last frame. Before Python
            3.14 it is `backports.zstd.ZstdError`.

    Example:
        >>> packed = run(from_iterable(b"a" * 1000).pipe(zstd()).pipe(join()))
        >>> run(from_iterable(packed * 2).pipe(unzstd(max_output=2000)).pipe(join())) == b"a" * 2000
        True
    """
    limit = check_limit("max_output", max_output)
    library = _zstd_library("unzstd")
    return fused(lambda: _Unzstd(limit, library), "unzstd", **differing(max_output=(max_output, math.inf)))


def brotli(*, level: int = BROTLI_LEVEL) -> Transform[bytes, bytes]:
    """Compress into one brotli stream, which browsers can read. Needs `trioflow[brotli]`.

    Blocks of 256 KiB are compressed in a thread, so Trio's loop is not blocked.

    Emits when: brotli has gathered enough input, some hundred KiB; a small chunk is not emitted at once.
    Waits when: downstream is not ready.
    Ends when: the source ends, after the rest; without input it emits an empty stream.
    On cancel: waits for the block being compressed (3 ms at level 5, half a second at 11), and drops it and all gathered
        input; the output is a truncated stream.
    Holds: what brotli needs for the level (2 MiB at 0, 20 MiB at 5, 40 MiB at 11), two blocks and one batch.

    Args:
        level: From 0, the fastest, to 11, the smallest, which takes 200 times as long as level 5.

    Raises:
        ImportError: brotli is not installed.
        TypeError: `level` is not an int; a chunk is not bytes-like.
        ValueError: `level` is not from 0 to 11.

    Example:
        >>> packed = run(from_iterable([b"a", b"b"]).pipe(brotli()).pipe(join()))
        >>> run(from_iterable(packed).pipe(unbrotli()).pipe(join()))
        b'ab'
    """
    check_count("level", level, 0, 11)
    library = import_extra("brotli", "brotli", "brotli")

    def start() -> _Packer:
        compressor = library.Compressor(quality=level)
        return _Packer(compressor.process, compressor.finish)

    return _packing("brotli", start, differing(level=(level, BROTLI_LEVEL)))


def unbrotli(*, max_output: float = math.inf) -> Transform[bytes, bytes]:
    """Decompress one brotli stream. Needs `trioflow[brotli]`.

    Emits when: brotli has output: pieces of at most 256 KiB, made as downstream has room for them.
    Waits when: downstream is not ready, even in the middle of a chunk.
    Ends when: the source ends.
    On cancel: unread output is lost.
    Holds: the window that the stream asks for, 16 MiB at most, one batch of chunks, and the pieces that are emitted
        together, 1 MiB at most.

    Args:
        max_output: The most bytes to emit in all; `math.inf` for no limit. Set a limit for untrusted input: one
            byte of brotli can expand to 600,000.

    Raises:
        ImportError: brotli is not installed.
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside the stream, or is empty.
        brotli.error: the input is not brotli, is damaged, or continues after its end.

    Example:
        >>> packed = run(from_iterable(b"a" * 1000).pipe(brotli()).pipe(join()))
        >>> run(from_iterable(packed).pipe(unbrotli(max_output=1000)).pipe(join())) == b"a" * 1000
        True
    """
    limit = check_limit("max_output", max_output)
    library = import_extra("unbrotli", "brotli", "brotli")
    return fused(lambda: _Unbrotli(limit, library), "unbrotli", **differing(max_output=(max_output, math.inf)))


class _Packer(NamedTuple):
    """A compressor of one of the libraries. Both release the GIL while they work."""

    pack: Callable[[Any], bytes]
    finish: Callable[[], bytes]


def _packing(name: str, start: Callable[[], _Packer], given: dict[str, object]) -> Transform[bytes, bytes]:
    async def run(source: ReceiveChannel[Any], output: SendChannel[bytes]) -> None:
        packer = start()
        held = bytearray()  # the start of the next block
        async for chunks in source.batches():
            check_kinds(f"{name} expects bytes", chunks)
            for chunk in chunks:
                for portion in portions(chunk, BLOCK):
                    held += portion
                    if len(held) >= BLOCK:
                        block, held = held, bytearray()
                        if packed := await trio.to_thread.run_sync(packer.pack, block, limiter=processors()):
                            await output.send(packed)

        def finish() -> bytes:
            return packer.pack(held) + packer.finish()

        await output.send(await trio.to_thread.run_sync(finish, limiter=processors()))

    return task(run, name, **given)


class _Unzstd(Unpacker):
    name, what, header = "unzstd", "zstd frame", "zstd header"

    def __init__(self, limit: float, library: Any) -> None:
        super().__init__(limit)
        self._library = library
        self._frame: Any = None

    def begin(self, data: Any) -> Any:
        self._frame = self._library.ZstdDecompressor()
        return data

    def step(self, data: Any) -> Step:
        frame, error = self._frame, self._library.ZstdError
        try:
            piece: bytes = frame.decompress(data, PIECE)
        except error as exc:
            reason = str(exc).rpartition(": ")[2]
            if reason != "Unknown frame descriptor":
                raise error(f"unzstd: zstd frame {self.members} is damaged: {reason}") from exc
            before = self.members - 1
            told = f"garbage after zstd frame {before}" if before else "the input is not zstd"
            raise error(f"unzstd: {told}") from exc
        # It keeps the input that it has not read, and returns what follows the end of the frame.
        return Step(piece, frame.unused_data, has_ended=frame.eof, has_more=not frame.eof and not frame.needs_input)


class _Unbrotli(Unpacker):
    name, what, header, is_one = "unbrotli", "brotli stream", "brotli header", True

    def __init__(self, limit: float, library: Any) -> None:
        super().__init__(limit)
        self._error: type[Exception] = library.error
        self._stream = library.Decompressor()

    def begin(self, data: Any) -> Any:
        if self.members:
            raise self._wrong()
        return data

    def step(self, data: Any) -> Step:
        stream = self._stream
        is_full = not stream.can_accept_more_data()  # it still has input to read, and takes no more until then
        try:
            # A piece consists of blocks, the first of 32 KiB. brotli stops after the block that reaches the limit.
            piece: bytes = stream.process(b"" if is_full else data, output_buffer_limit=_STOP)
        except self._error as exc:
            raise self._wrong() from exc
        has_ended: bool = stream.is_finished()
        has_more = not has_ended and (len(piece) >= _STOP or not stream.can_accept_more_data())
        return Step(piece, data if is_full else b"", has_ended, has_more)

    def _wrong(self) -> Exception:
        # If all arrives in one chunk, brotli does not say which of these it is.
        return self._error("unbrotli: the input is not brotli, is damaged, or continues after its end")


def zstd_error() -> type[Exception]:
    """Return the class of error that `unzstd` raises for wrong input."""
    error: type[Exception] = _zstd_library("unzstd").ZstdError
    return error


def brotli_error() -> type[Exception]:
    """Return the class of error that `unbrotli` raises for wrong input."""
    error: type[Exception] = import_extra("unbrotli", "brotli", "brotli").error
    return error


def _zstd_library(name: str) -> Any:
    return import_extra(name, "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "zstd")
