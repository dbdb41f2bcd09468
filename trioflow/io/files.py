"""Files, as bytes: read, written, copied.

Rule 1: what is opened is closed before the run returns, in every ending.
Rule 2: nothing here blocks the loop; a pipe or a terminal is waited for, a disk is a thread's.
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
    """Give the bytes of a file, in chunks; each run opens it anew (R4).

    Piped straight into a sink that can take it, such as `write_file`, the file goes there whole, inside the kernel.
    A pipe or a device is read too, as its bytes come: it has no place to start at, so bytes before `start` are
    read and forgotten.

    With `follow` it goes on behind the file's end, as `tail -F` does: every `interval` seconds it looks for more. A file
    that has become shorter is read again from its beginning; one that has grown as long again between two looks cannot
    be told from one that grew. Where another file has taken its name, as when logs are rotated, the rest of the old one
    is given until that has been quiet for an interval, then the new one from its beginning. While the name leads nowhere, to
    a directory, or to a file that may not be read, it waits; when the run begins, the file must be there, unless
    `missing="wait"` waits for it then too.

    Emits when: a chunk has been read, from the page cache at once, from the disk by a thread.
    Waits when: its reader does; with `follow`, also for the file to grow.
    Ends when: the file does, as long as it is by then, or at `stop`; with `follow`, never.
    On cancel: a read from the disk is waited for, then the file is closed.
    Holds: one chunk of at most 512 KiB, or of `chunk_size`, and a buffer of 128 KiB.

    Args:
        path: The file; a relative path is looked up when it runs.
        start: The offset of the first byte to give.
        stop: The offset of the first byte not to give.
        chunk_size: The largest chunk to give; the system may give smaller ones.
        follow: Go on as the file grows.
        interval: How often to look whether it has, in seconds.
        missing: With `follow`, what to do when the run begins and the file is not there, or cannot be read yet: `"fail"`,
            or `"wait"` for it, as `tail -F` does.

    Raises:
        TypeError: `path` is no path, a number is not an int, or `follow` not a bool.
        ValueError: `path` is empty, `start` is below 0, `stop` is below `start`, `chunk_size` is below 1, or `interval`
            not above 0; there is a `stop` where it is to `follow`; or `missing` is neither `"fail"` nor `"wait"`, or
            `"wait"` without `follow`.
        OSError: the file cannot be opened or read: `FileNotFoundError`, `IsADirectoryError`, `PermissionError`.

    Example:
        >>> run(pipeline([b"one", b"two"], write_file("numbers")))
        6
        >>> run(read_file("numbers", start=3).pipe(join()))
        b'two'
    """
    options = given(
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
        raise ValueError(f"stop must be {start} or more, as start is, not {stop}")
    if chunk_size is not None:
        check_count("chunk_size", chunk_size, 1)
    check_positive("interval", interval)
    check_flags(follow=follow)
    if missing not in ("fail", "wait"):
        raise ValueError(f'missing must be "fail" or "wait", not {missing!r}')
    if missing == "wait" and not follow:
        raise ValueError('missing="wait" waits for a file that is followed: it wants follow=True')
    if follow:
        if stop is not None:
            raise ValueError(f"a file that is followed has no end: it wants no stop, not {stop}")

        async def run_on(output: SendChannel[bytes]) -> None:
            async with open_following(where, start, chunk_size, interval, waits=missing == "wait") as reader:
                await send_all(reader, output, chunk_size)

        return Readable._of(Stage(name, function=run_on, follow=_telling(where)))

    async def run(output: SendChannel[bytes]) -> None:
        fd, status = await open_soon(where)
        try:
            if stat.S_ISREG(status.st_mode):
                end = status.st_size if stop is None else min(stop, status.st_size)
                output._expect(max(end - start, 0))  # for who shows progress
            await send_all(reader_of(fd, status, start, stop, chunk_size), output, chunk_size)
        finally:
            os.close(fd)

    offer = Offer(OpenRegion, FileRegion(where, start, stop).open)
    return Readable._of(Stage(name, function=run, offer=offer, follow=_telling(where)))


def write_file(
    path: AnyPath, *, append: bool = False, atomic: bool = True, durable: bool = False
) -> Writable[bytes, int]:
    """Write all chunks to a file, and give the number of bytes.

    By default the file appears whole or not at all: it is written as `.NAME.<16 hex digits>.tmp` in the same directory
    and renamed at the end. A process that is killed leaves that file behind. After a failure, a cancellation or a hang-up nothing is left, and what was there before is
    untouched (R13). A file that exists keeps its mode, a symbolic link stays one: what it points to is replaced.
    Extended attributes and access control lists stay as far as this process may set them. Hard links cannot: another name
    of the old file keeps the old content. A hole in a file that is copied stays a hole.
    A pipe or a device cannot be replaced, and is written to as it is; a pipe is waited for until it has a reader.
    `/dev/stdout`, `/dev/fd/3` and the like name a file that is open: what comes is written where that file stands, and
    nothing of it is replaced or emptied, whatever `atomic` says.

    Waits when: the disk does.
    Ends when: the source ends, after the file is closed and has its name.
    On cancel: nothing is left of an atomic file; else what was written stays. A write to the disk is waited for.
    Holds: one batch; small chunks are joined into at most 64 KiB.

    Args:
        path: The file; a relative path is looked up when it runs.
        append: Write behind what the file holds. That is never atomic, whatever `atomic` says.
        atomic: False writes in place: what the file held is gone when the run begins, and what it holds after a
            failure is not whole. That cannot be the file that a `read_file` at the beginning of the chain reads; where a
            file is read in any other way, as by `merge` or another run, that is for you to see to.
        durable: Wait until the disk has the file and its name before the run ends (`fsync`). Without it a power cut in
            the next half minute or so may bring back the old file, or on some file systems an empty one.

    Raises:
        TypeError: `path` is no path; or an item is not bytes-like.
        ValueError: `path` is empty.
        OSError: the file cannot be opened, before anything is received: `IsADirectoryError`, `PermissionError`,
            `FileNotFoundError` where its directory is missing; it cannot be replaced, as it is a mount or its directory
            takes no new file; it would be written in place while it is read; or it cannot be written.

    Example:
        >>> run(pipeline([b"one", b"two"], write_file("numbers")))
        6
        >>> run(pipeline([b"three"], write_file("numbers", append=True)))
        5
        >>> run(read_file("numbers").pipe(join()))
        b'onetwothree'
    """
    name = label("write_file", path, **given(append=(append, False), atomic=(atomic, True), durable=(durable, False)))
    where = check_path("write_file", path)
    check_flags(append=append, atomic=atomic, durable=durable)
    write = _Write(partial(open_target, where, append=append, atomic=atomic, durable=durable))
    takes: Takes = {OpenRegion: write.take_region, ThreadCopy: write.take_copy}
    return Writable._of(Stage(name, function=write, takes=takes))


class _Write:
    """What a `write_file` does; `reads` is the file that its chain begins with."""

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


def _telling(path: str) -> Callable[[Sequence[Stage], bool], Sequence[Stage]]:
    """Make what tells a `write_file` at the end of a chain which file the chain reads."""

    def follow(stages: Sequence[Stage], is_complete: bool) -> Sequence[Stage]:  # noqa: FBT001 - what a `Stage` wants
        *others, last = stages
        if not isinstance(last.function, _Write):
            return stages
        return [*others, last._replace(function=_Write(last.function.open, path))]

    return follow


def given(**arguments: tuple[object, object]) -> dict[str, object]:
    """Give the arguments that differ from their defaults, for a label."""
    return {name: value for name, (value, default) in arguments.items() if value != default}


def check_path(name: str, path: Any) -> str:
    """Give `path` as a `str` if it can name a file."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} wants a path, not {type(path).__name__} {path!r}")
    where = os.fsdecode(path)
    if not where:
        raise ValueError(f"{name} wants a path, not an empty one")
    if "\0" in where:
        raise ValueError(f"{name} wants a path without NUL characters, not {path!r}")
    return where
