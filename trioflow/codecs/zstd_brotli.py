"""zstd and brotli, both ways, on libraries that are extras: each is imported when one of its stages is made.

Rule 1: how the input is cut into chunks changes nothing.
Rule 2: an input that ends early is an `EOFError` (R10), one that is wrong an error of the library's own.
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
from trioflow.codecs.unpacking import PIECE, Step, Unpacker

ZSTD_LEVEL: Final = 3
BROTLI_LEVEL: Final = 5
_STOP: Final = 1 << 14  # bytes of brotli's, which makes 32 KiB or more at once
BLOCK: Final = 1 << 18  # bytes; the way to a thread takes 0.1 ms, zstd takes 0.6 ms for them at level 3


def zstd(*, level: int = ZSTD_LEVEL) -> Transform[bytes, bytes]:
    """Compress into one zstd frame: smaller than `gzip` makes it, in a quarter of the time. Needs `trioflow[zstd]`.

    Blocks of 256 KiB are compressed in a thread; the loop is not held.

    Emits when: zstd has gathered enough, some hundred KiB of input; a small chunk does not come out at once.
    Waits when: its reader does.
    Ends when: the source ends, behind the rest and the checksum; no input gives an empty frame.
    On cancel: the block at hand is waited for, 1 ms at level 3 and half a second at 19, and lost with what was gathered;
        what came out is a cut frame.
    Holds: what zstd needs for the level, 2 MiB at 1, 5 MiB at 3, 90 MiB at 19, 710 MiB at 22; two blocks and one batch.

    Args:
        level: From 1, the fastest, to 22, the smallest.

    Raises:
        ImportError: zstd is not installed.
        TypeError: `level` is not an int; a chunk is not bytes-like.
        ValueError: `level` is not 1 to 22.

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
    """Decompress zstd, one frame or several behind each other. Needs `trioflow[zstd]`.

    Emits when: zstd has unpacked something: pieces of at most 256 KiB, made as the reader has room for them.
    Waits when: its reader does, be it in the middle of a chunk.
    Ends when: the source ends.
    On cancel: what was not read is lost.
    Holds: the window that the frame asks for, 128 MiB at most, where levels to 19 ask for 8 MiB at most; one batch of
        chunks, and the pieces that go out together, 1 MiB at most.

    Args:
        max_output: The most bytes to give in all; `math.inf` for no limit. For input from strangers set one.

    Raises:
        ImportError: zstd is not installed.
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside a frame, or is empty (R10).
        compression.zstd.ZstdError: the input is not zstd, is damaged, or goes on behind its last frame. Before Python
            3.14 it is that of `backports.zstd`.

    Example:
        >>> packed = run(from_iterable(b"a" * 1000).pipe(zstd()).pipe(join()))
        >>> run(from_iterable(packed * 2).pipe(unzstd(max_output=2000)).pipe(join())) == b"a" * 2000
        True
    """
    limit = check_limit("max_output", max_output)
    library = _zstd_library("unzstd")
    return fused(lambda: _Unzstd(limit, library), "unzstd", **differing(max_output=(max_output, math.inf)))


def brotli(*, level: int = BROTLI_LEVEL) -> Transform[bytes, bytes]:
    """Compress into one brotli stream, as browsers read it. Needs `trioflow[brotli]`.

    Blocks of 256 KiB are compressed in a thread; the loop is not held.

    Emits when: brotli has gathered enough, some hundred KiB of input; a small chunk does not come out at once.
    Waits when: its reader does.
    Ends when: the source ends, behind the rest; no input gives an empty stream.
    On cancel: the block at hand is waited for, 3 ms at level 5 and half a second at 11, and lost with what was gathered;
        what came out is a cut stream.
    Holds: what brotli needs for the level, 2 MiB at 0, 20 MiB at 5, 40 MiB at 11; two blocks and one batch.

    Args:
        level: From 0, the fastest, to 11, the smallest, which takes 200 times as long as 5.

    Raises:
        ImportError: brotli is not installed.
        TypeError: `level` is not an int; a chunk is not bytes-like.
        ValueError: `level` is not 0 to 11.

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

    Emits when: brotli has unpacked something: pieces of at most 256 KiB, made as the reader has room for them.
    Waits when: its reader does, be it in the middle of a chunk.
    Ends when: the source ends.
    On cancel: what was not read is lost.
    Holds: the window that the stream asks for, 16 MiB at most; one batch of chunks, and the pieces that go out
        together, 1 MiB at most.

    Args:
        max_output: The most bytes to give in all; `math.inf` for no limit. For input from strangers set one: brotli
            makes up to 600,000 bytes of one.

    Raises:
        ImportError: brotli is not installed.
        TypeError: `max_output` is neither an int nor `math.inf`; a chunk is not bytes-like.
        ValueError: `max_output` is below 1; the output is longer.
        EOFError: the input ends inside the stream, or is empty (R10).
        brotli.error: the input is not brotli, is damaged, or goes on behind its end.

    Example:
        >>> packed = run(from_iterable(b"a" * 1000).pipe(brotli()).pipe(join()))
        >>> run(from_iterable(packed).pipe(unbrotli(max_output=1000)).pipe(join())) == b"a" * 1000
        True
    """
    limit = check_limit("max_output", max_output)
    library = import_extra("unbrotli", "brotli", "brotli")
    return fused(lambda: _Unbrotli(limit, library), "unbrotli", **differing(max_output=(max_output, math.inf)))


class _Packer(NamedTuple):
    """A compressor of one of the libraries: neither holds Python's lock while it works."""

    pack: Callable[[Any], bytes]
    finish: Callable[[], bytes]


def _packing(name: str, start: Callable[[], _Packer], given: dict[str, object]) -> Transform[bytes, bytes]:
    async def run(source: ReceiveChannel[Any], output: SendChannel[bytes]) -> None:
        packer = start()
        held = bytearray()  # less than a block
        async for chunks in source.batches():
            check_kinds(f"{name} expects bytes", chunks)
            for chunk in chunks:
                # A bytearray is copied: a view would forbid its owner to change its size.
                view = memoryview(bytes(chunk) if isinstance(chunk, bytearray) else chunk).cast("B")
                for at in range(0, len(view), BLOCK):
                    held += view[at : at + BLOCK]
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
        # What it has not read it keeps, and gives back behind the end.
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
        is_full = not stream.can_accept_more_data()  # it keeps what it has not read, and wants no more until it has
        try:
            # It makes a piece of blocks, the first of 32 KiB, and stops behind the one that reaches the limit.
            piece: bytes = stream.process(b"" if is_full else data, output_buffer_limit=_STOP)
        except self._error as exc:
            raise self._wrong() from exc
        has_ended: bool = stream.is_finished()
        has_more = not has_ended and (len(piece) >= _STOP or not stream.can_accept_more_data())
        return Step(piece, data if is_full else b"", has_ended, has_more)

    def _wrong(self) -> Exception:
        # brotli does not tell which it is, where all comes in one chunk.
        return self._error("unbrotli: the input is not brotli, is damaged, or continues after its end")


def zstd_error() -> type[Exception]:
    """Give the class of what `unzstd` raises for an input that is wrong."""
    error: type[Exception] = _zstd_library("unzstd").ZstdError
    return error


def brotli_error() -> type[Exception]:
    """Give the class of what `unbrotli` raises for an input that is wrong."""
    error: type[Exception] = import_extra("unbrotli", "brotli", "brotli").error
    return error


def _zstd_library(name: str) -> Any:
    return import_extra(name, "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "zstd")
