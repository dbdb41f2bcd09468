"""Deflate in blocks, several at once: one stream, which any zlib reads, made in as many threads as there are processors.

Rule 1: a block takes the end of the one before it for its dictionary, and ends with a whole byte. That makes logs 0.07 %
    larger than zlib does alone, and the same bytes however many threads there are and however the input was cut.
Rule 2: the loop is held for 0.5 ms at most: zlib takes 4 ms for a block, in a thread; less than `SMALL` is not worth one.
Rule 3: a thread is waited for, also when cancelled: at most `_ROUND` blocks.
"""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, Literal

import trio

Library = Literal["fastest", "zlib"]

BLOCK: Final = 1 << 17  # bytes; with 64 KiB the output is 0.15 % larger, with 256 KiB no faster
SMALL: Final = 1 << 14  # bytes
_WINDOW: Final = 1 << 15  # bytes back that a match may lie
_ROUND: Final = 4  # blocks for each thread between two looks for a cancellation

_limiter: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("processors that deflate")


# isal's levels by zlib's. A log of 50 MB: zlib packs it to 34.0 % at 168 MB/s on level 1, to 28.9 % at 33 on level 6; isal to
# 32.3 % at 520 on its level 1, to 31.6 % at 300 on its 3. Smaller than that is zlib's to make.
_ISAL_LEVELS: Final = {1: 1, 2: 1, 3: 1, 4: 3, 5: 3, 6: 3}


@cache
def isal() -> Any:
    """Return isal's stand-in for `zlib`; None where it is not installed."""
    # isal 1.9 unpacks a log 3 times as fast as zlib 1.2.13, zlib-ng 1.1 twice. Both are kept by the same people.
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


def processors() -> trio.CapacityLimiter:
    """Give the threads there may be; others wait for them, and not for those that read files."""
    try:
        return _limiter.get()
    except LookupError:
        affinity = getattr(os, "sched_getaffinity", None)
        limiter = trio.CapacityLimiter(len(affinity(0)) if affinity else os.cpu_count() or 1)
        _limiter.set(limiter)
        return limiter


class Deflater:
    """One stream: bytes in, blocks out, and in the end the rest.

    Args:
        level: As zlib has it.
        checksum: `zlib.crc32`, `zlib.adler32` or the like: gives the checksum of data behind others with that checksum.
        library: `"zlib"`, or `"fastest"` for isal where it is installed and has such a level.

    Attributes:
        checksum: That of what has been deflated.
        size: How many bytes that is.
    """

    def __init__(self, level: int, checksum: Callable[[bytes, int], int], library: Library) -> None:
        self.checksum = 1 if checksum is zlib.adler32 else 0
        self.size = 0
        self._checksum = checksum
        self._level = level
        self._fast = isal() if library == "fastest" and level in _ISAL_LEVELS else None
        self._held = bytearray()
        self._before = b""  # the end of the last block

    async def feed(self, chunks: Iterable[Any]) -> list[bytes]:
        """Deflate the blocks that `chunks` make whole."""
        held = self._held
        held += b"".join(chunks)
        whole = len(held) - len(held) % BLOCK
        if not whole:
            return []
        with memoryview(held) as view:
            blocks = [bytes(view[at : at + BLOCK]) for at in range(0, whole, BLOCK)]
        del held[:whole]
        limiter = processors()
        most = _ROUND * int(limiter.total_tokens)
        packed: list[bytes] = []
        for at in range(0, len(blocks), most):
            packed += await self._round(blocks[at : at + most], limiter)
        return packed

    async def _round(self, blocks: list[bytes], limiter: trio.CapacityLimiter) -> list[bytes]:
        before = [self._before, *blocks]
        packed = [b""] * len(blocks)
        threads = min(len(blocks), int(limiter.total_tokens))

        def deflate(first: int) -> None:
            for i in range(first, len(blocks), threads):
                packed[i] = self._deflate(blocks[i], before[i], zlib.Z_SYNC_FLUSH)

        def deflate_and_count() -> None:
            deflate(0)
            self._count(blocks)

        if threads == 1:
            await trio.to_thread.run_sync(deflate_and_count, limiter=limiter)
        else:
            async with trio.open_nursery() as nursery:
                for first in range(1, threads):
                    nursery.start_soon(lambda i: trio.to_thread.run_sync(deflate, i, limiter=limiter), first)
                await trio.to_thread.run_sync(deflate_and_count, limiter=limiter)
        self._before = blocks[-1]
        return packed

    async def flush(self) -> bytes:
        """Deflate what is held, so that all that has come can be read."""
        return await self._rest(zlib.Z_SYNC_FLUSH) if self._held else b""

    async def finish(self) -> bytes:
        """Deflate the rest, and end the stream."""
        return await self._rest(zlib.Z_FINISH)

    async def _rest(self, how: int) -> bytes:
        rest = bytes(self._held)
        self._held.clear()
        before, self._before = self._before, (self._before + rest)[-_WINDOW:]

        def deflate() -> bytes:
            self._count([rest])
            return self._deflate(rest, before, how)

        return deflate() if len(rest) < SMALL else await trio.to_thread.run_sync(deflate, limiter=processors())

    def _deflate(self, block: bytes, before: bytes, how: int) -> bytes:
        # isal makes 73 bytes of 95 of text, zlib 40: what is small is zlib's.
        compressobj, level = zlib.compressobj, self._level
        if self._fast is not None and len(block) >= SMALL:
            compressobj, level = self._fast.compressobj, _ISAL_LEVELS[level]
        compressor = compressobj(
            level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, before[-_WINDOW:]
        )
        return compressor.compress(block) + compressor.flush(how)

    def _count(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self.checksum = self._checksum(block, self.checksum)
            self.size += len(block)
