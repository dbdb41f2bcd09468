"""Reads, writes and copies files as bytes.

Rule 1: every file that a run opens is closed before the run returns, however it ends.
Rule 2: nothing here blocks the event loop: pipes and terminals are waited for in it, disks are read and written in
    threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_count, check_flags, check_positive
from trioflow._core.engine import Stage
from trioflow._core.makers import differing
from trioflow._core.shortcuts import Offer, OpenRegion, Takes, ThreadCopy
from trioflow._core.streams import Readable, Writable, label
from trioflow.io.file_follower import open_following
from trioflow.io.file_reader import FileRegion, open_soon, reader_of, send_all
from trioflow.io.file_target import open_target
from trioflow.io.file_writer import Target, ready_pieces

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def read_file(
    path: AnyPath,
    *,
    start: int = 0,
    stop: int | None = None,
    chunk_size: int | None = None,
    follow: bool = False,
    interval: float = 0.25,
    missing: Literal["fail", "wait"] = "fail",
) -> Readable[bytes]:
    """Read a file in chunks of bytes; each run opens it again.

    Piped straight into a sink that supports it, such as `write_file`, the whole file is copied inside the kernel. You
    can also read a pipe or a device: it is read as data arrives. Neither can seek, so the bytes before `start` are read
    and thrown away.

    With `follow=True` reading goes on past the end of the file, as `tail -F` does: every `interval` seconds it looks
    for more. A file that has become shorter is read again from its beginning; if a file was truncated and grew past its
    old length between two looks, that cannot be noticed. If another file takes its name, as in log rotation, the rest
    of the old file is read until it has been quiet for one interval, then the new file from its beginning. While the
    name is missing, is a directory or cannot be read, it keeps looking. The file must exist when the run begins, unless
    `missing="wait"`.

    Emits when: a chunk has been read, from the page cache at once or from the disk in a thread.
    Waits when: its reader does; with `follow`, also until the file grows.
    Ends when: it reaches the end of the file, even one that has grown since the start, or `stop`; with `follow`, never.
    On cancel: waits for a read from the disk that has begun, then closes the file.
    Holds: one chunk of at most 512 KiB, or of `chunk_size`. All files that are read share a buffer of 128 KiB, or of 1 MiB
        if `chunk_size` is large.

    Args:
        path: The file to read. A relative path is resolved when the run begins.
        start: The offset of the first byte to read.
        stop: The offset to stop before; None for the end of the file.
        chunk_size: The largest chunk to send; chunks may be smaller.
        follow: Keep reading as the file grows.
        interval: The seconds between two looks for more.
        missing: What to do with `follow` if the file does not exist or cannot be read when the run begins: `"fail"`
            raises, `"wait"` waits for it, as `tail -F` does.

    Raises:
        TypeError: `path` is not a path, a number is not an int, or `follow` is not a bool.
        ValueError: `path` is empty, `start` is below 0, `stop` is below `start`, `chunk_size` is below 1, `interval` is
            not above 0, `stop` is combined with `follow`, `missing` is neither `"fail"` nor `"wait"`, or it is `"wait"`
            without `follow`.
        OSError: the file cannot be opened or read: `FileNotFoundError`, `IsADirectoryError`, `PermissionError`.

    Example:
        >>> run(pipeline([b"one", b"two"], write_file("numbers")))
        6
        >>> run(read_file("numbers", start=3).pipe(join()))
        b'two'
    """
    options = differing(
        start=(start, 0),
        stop=(stop, None),
        chunk_size=(chunk_size, None),
        follow=(follow, False),
        missing=(missing, "fail"),
    )
    name = label("read_file", path, **options)
    where = check_path("read_file", path)
    check_count("start", start, 0)
    if stop is not None and check_count("stop", stop, 0) < start:
        raise ValueError(f"stop must be at least start, which is {start}, got {stop}")
    if chunk_size is not None:
        check_count("chunk_size", chunk_size, 1)
    check_positive("interval", interval)
    check_flags(follow=follow)
    if missing not in ("fail", "wait"):
        raise ValueError(f'missing must be "fail" or "wait", got {missing!r}')
    if missing == "wait" and not follow:
        raise ValueError('missing="wait" needs follow=True')
    if follow and stop is not None:
        raise ValueError(f"follow=True reads without an end; leave out stop, got {stop}")
    if follow:

        async def run_on(output: SendChannel[bytes]) -> None:
            async with open_following(where, start, chunk_size, interval, waits=missing == "wait") as reader:
                await send_all(reader, output, chunk_size)

        return Readable._of(Stage(name, function=run_on, follow=partial(_tell, where)))

    async def run(output: SendChannel[bytes]) -> None:
        fd, status = await open_soon(where)
        try:
            if stat.S_ISREG(status.st_mode):
                end = status.st_size if stop is None else min(stop, status.st_size)
                output._expect(max(end - start, 0))  # `progress` shows it as the total
            await send_all(reader_of(fd, status, start, stop, chunk_size), output, chunk_size)
        finally:
            os.close(fd)

    offer = Offer(OpenRegion, FileRegion(where, start, stop).open)
    return Readable._of(Stage(name, function=run, offer=offer, follow=partial(_tell, where)))


def write_file(
    path: AnyPath, *, append: bool = False, atomic: bool = True, durable: bool = False
) -> Writable[bytes, int]:
    """Write all chunks to a file and return the number of bytes written.

    By default the file appears whole or not at all: it is written as `.NAME.<16 hex digits>.tmp` in the same directory
    and renamed at the end. If the run fails or is cancelled, the temporary file is removed and the old file is left as
    it was. Only a process that is killed leaves the temporary file behind. An existing file keeps its mode, and its
    extended attributes and access control lists as far as this process may set them. A symbolic link stays a link: the
    file it points to is replaced. Hard links are not kept: other names of the old file keep the old content. When a
    file is copied, its holes stay holes.

    A pipe or a device cannot be replaced, so it is written to directly; a pipe is waited for until it has a reader.
    `/dev/stdout`, `/dev/fd/3` and the like name a file that is already open: chunks are written at its current
    position, and it is never replaced or truncated, whatever `atomic` says.

    Waits when: the disk does.
    Ends when: the source ends, after the file is closed and has its name.
    On cancel: an atomic file is removed, any other keeps what was written. Waits for a write to the disk that has
        begun.
    Holds: one batch; small chunks are joined into at most 64 KiB.

    Args:
        path: The file to write. A relative path is resolved when the run begins.
        append: Write after what the file already holds. This is never atomic, whatever `atomic` says.
        atomic: False writes in place: the old content is lost when the run begins, and a failure leaves a partial file.
            The file must not be one that is being read. A `read_file` at the beginning of the same chain is checked for
            that; if you read the file in another way, as with `merge` or in another run, you have to check it yourself.
        durable: Wait until the disk has the file and its name before the run ends (`fsync`). Without it, a power
            failure in the next half minute or so may bring back the old file, or on some file systems an empty one.

    Raises:
        TypeError: `path` is not a path, or an item is not bytes-like.
        ValueError: `path` is empty.
        OSError: the file cannot be opened, which is raised before anything is received: `IsADirectoryError`,
            `PermissionError`, `FileNotFoundError` if its directory is missing; it cannot be replaced, because it is a
            mount or no file can be created in its directory; it would be written in place while it is read; or writing
            fails.

    Example:
        >>> run(pipeline([b"one", b"two"], write_file("numbers")))
        6
        >>> run(pipeline([b"three"], write_file("numbers", append=True)))
        5
        >>> run(read_file("numbers").pipe(join()))
        b'onetwothree'
    """
    name = label(
        "write_file", path, **differing(append=(append, False), atomic=(atomic, True), durable=(durable, False))
    )
    where = check_path("write_file", path)
    check_flags(append=append, atomic=atomic, durable=durable)
    write = _Write(partial(open_target, where, append=append, atomic=atomic, durable=durable))
    takes: Takes = {OpenRegion: write.take_region, ThreadCopy: write.take_copy}
    return Writable._of(Stage(name, function=write, takes=takes))


class _Write:
    """The function of a `write_file` stage; `reads` is the file that its chain reads, if any."""

    def __init__(self, opened: Callable[..., AbstractAsyncContextManager[Target]], reads: str | None = None) -> None:
        self.open = opened
        self.reads = reads

    async def __call__(self, source: ReceiveChannel[bytes]) -> int:
        async with self.open(reads=self.reads) as target:
            count = 0
            async for chunks in source.batches():
                count += await target.write(await ready_pieces("write_file", source, chunks))
            return count

    async def take_region(self, region: OpenRegion) -> int:
        async with self.open(reads=region.fd) as target:
            return await target.copy(region.fd, region.start, region.stop)

    async def take_copy(self, copy: ThreadCopy) -> int:
        async with self.open() as target:
            return await copy.into(target.write_now)


def _tell(path: str, stages: Sequence[Stage], is_complete: bool) -> Sequence[Stage]:  # noqa: FBT001 - a Stage's `follow`
    """Tell a `write_file` at the end of the chain that the chain reads the file at `path`."""
    *others, last = stages
    if not isinstance(last.function, _Write):
        return stages
    return [*others, last._replace(function=_Write(last.function.open, path))]


def check_path(name: str, path: Any) -> str:
    """Return `path` as a `str`, or raise if it cannot name a file."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} expects a path, got {type(path).__name__} {path!r}")
    where = os.fsdecode(path)
    if not where:
        raise ValueError(f"{name} expects a path, got an empty one")
    if "\0" in where:
        raise ValueError(f"{name} expects a path without NUL characters, got {path!r}")
    return where
