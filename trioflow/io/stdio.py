"""This process's standard input and output.

Rule 1: neither is ever closed or made non-blocking: that would also affect the shell and every other process that
    shares them, and last longer than this process.
Rule 2: waiting is done in the event loop; then as much is read or written as cannot block.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
from typing import Final

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.engine import Stage
from trioflow._core.streams import Readable, Writable, label
from trioflow.io.file_reader import FileReader, reader_of, refuse_directory, send_all
from trioflow.io.file_writer import Output, check_chunks
from trioflow.io.page_cache import NOWAIT

_INPUT: Final = 0
_OUTPUT: Final = 1

_reading = threading.Lock()


def stdin() -> Readable[bytes]:
    """Read this process's standard input in chunks of bytes: a file, a pipe or a terminal.

    It reads the file descriptor, so what `input()` or `sys.stdin` has already buffered is missing. You can run it
    again: it continues where the last run stopped. From a pipe or a terminal, bytes that the last run had read but not
    delivered are lost.

    Emits when: bytes have arrived; from a terminal, line by line.
    Waits when: no bytes have arrived, or its reader waits.
    Ends when: the input does; at a terminal with Ctrl-D.
    On cancel: bytes that were read but not received are lost; of a file, nothing that was not sent.
    Holds: one chunk of at most 64 KiB, from a file of at most 512 KiB.

    Raises:
        trio.BusyResourceError: another run is reading it.
        OSError: the process has no standard input, or it cannot be read.
    """

    async def run(output: SendChannel[bytes]) -> None:
        if not _reading.acquire(blocking=False):
            raise trio.BusyResourceError("another run is reading the standard input")
        try:
            await _read(output)
        finally:
            _reading.release()

    return Readable._of(Stage(label("stdin"), function=run))


def _check_there(stream: object, name: str) -> None:
    # Without one, its number is free, and the next file that is opened gets it.
    if stream is None:
        raise OSError(errno.EBADF, f"this process has no standard {name}")


async def _read(output: SendChannel[bytes]) -> None:
    _check_there(sys.__stdin__, "input")
    status = os.fstat(_INPUT)
    refuse_directory(status, "<stdin>")
    is_file = stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)
    reader = reader_of(_INPUT, status, os.lseek(_INPUT, 0, os.SEEK_CUR) if is_file else 0, None, None)
    try:
        await send_all(reader, output, None)
    finally:
        if isinstance(reader, FileReader):
            os.lseek(_INPUT, reader.at, os.SEEK_SET)  # the next reader, such as the shell, continues here


def stdout() -> Writable[bytes | str, int]:
    """Write all items to this process's standard output and return the number of bytes. A `str` is written as UTF-8.

    Output printed before the run comes first. Items are written at once, so there is nothing to flush at the end.

    Waits when: the terminal, pipe or file does.
    Ends when: the source ends, after its last byte is written; the standard output stays open.
    On cancel: part of the output may have been written.
    Holds: one batch; small chunks are joined into at most 64 KiB.

    Raises:
        TypeError: an item is neither bytes-like nor a `str`.
        BrokenPipeError: the reader of the pipe has closed it, as `head` does.
        OSError: the process has no standard output, or it cannot be written.
    """

    async def run(source: ReceiveChannel[bytes | str]) -> int:
        _check_there(sys.__stdout__, "output")
        if sys.stdout is not None:  # a program may have set it to None
            await trio.to_thread.run_sync(sys.stdout.flush)
        output = _Output()
        try:
            count = 0
            async for items in source.batches():
                chunks = [item.encode() if isinstance(item, str) else item for item in items]
                check_chunks("stdout", chunks, "bytes or str")
                count += await output.write(chunks)
            return count
        finally:
            output.close()

    return Writable._of(Stage(label("stdout"), function=run))


class _Output(Output):
    """The standard output under a descriptor of its own, since two runs at once may both wait for it."""

    def __init__(self) -> None:
        self._fd = os.dup(_OUTPUT)
        mode = os.fstat(self._fd).st_mode
        self._is_file = stat.S_ISREG(mode)
        self._is_pipe = stat.S_ISFIFO(mode)
        self._asks = bool(NOWAIT)

    async def _write_soon(self, piece: memoryview) -> None:
        while piece:
            try:
                if not self._is_file:
                    await trio.lowlevel.wait_writable(self._fd)
            except PermissionError:  # such as /dev/null, which is always ready, as a file is
                self._is_file = True
            piece = piece[await self._write_now(piece) :]

    async def _write_now(self, piece: memoryview) -> int:
        """Write what fits now and return its size: 0 if another process filled the pipe first."""
        try:
            if self._asks:
                try:
                    return os.pwritev(self._fd, [piece], -1, NOWAIT)
                except BlockingIOError:
                    raise
                except OSError:
                    self._asks = False  # without this call, or in a sandbox; what else is wrong is raised below
            if self._is_pipe:
                return os.write(self._fd, piece[: select.PIPE_BUF])  # a writable pipe has room for this much
            # A terminal may take less than it is given and then block, so a thread writes to it.
            return await trio.to_thread.run_sync(os.write, self._fd, piece[: select.PIPE_BUF])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close this descriptor, not the standard output."""
        trio.lowlevel.notify_closing(self._fd)
        os.close(self._fd)
