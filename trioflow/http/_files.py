"""A directory's files over HTTP: open, look at what is open, decide, stream.

Rule 1: a path is split into names, and each is looked up beneath the root; nothing leads out of it, by a link neither.
Rule 2: a file is opened once. Size, date and type are those of the open file, and its bytes come from there.
Rule 3: what is not a regular file, or has a name that begins with a dot, is not found.
Rule 4: the loop never waits for a disk: what the kernel cannot open from memory, a thread opens.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import trio

from trioflow._channel import SendChannel
from trioflow._engine import Stage
from trioflow._fileread import OpenStretch, reader_of, send_all
from trioflow._streams import Readable, label
from trioflow.http._conditions import (
    NotModified,
    Part,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    decide,
    etag_of,
    format_date,
)
from trioflow.http._connection import Handler
from trioflow.http._messages import Request, Response
from trioflow.http._rooted import open_beneath, open_cached
from trioflow.http._types import content_type

_METHODS: Final = ("GET", "HEAD")
_PLAIN_IN_PATH: Final = "/~!$&'()*+,;=:@"  # what a path may hold as it is (RFC 3986 3.3), beside letters and digits

# Whatever else goes wrong is the server's fault, and none of the client's business: 500.
_STATUS_OF: Final = {
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
} | dict.fromkeys(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EXDEV,
        errno.ENXIO,
        errno.ENODEV,
        errno.EINVAL,
    ),
    404,
)


def files(root: str | os.PathLike[str], *, prefix: str = "/", index: str = "index.html") -> Handler:
    """Make a handler that serves a directory's files: to be served as it is, or called from a handler of one's own.

    GET and HEAD; single ranges and every condition on date and entity tag, by RFC 9110. A directory redirects to its
    name with a slash behind it, which gives its `index`. Not found are: names that begin with a dot, what is neither
    file nor directory, symbolic links that lead out of `root`, paths with an encoded slash. Headers that the response
    has already, such as Cache-Control, are kept.

    Waits when: the client does; the disk is waited for in a thread.
    On cancel: the file is closed, and the connection cut.
    Holds: one descriptor for each response, and of a file over 64 KiB nothing.

    Args:
        root: The directory; if it is a symbolic link, what that points to when a request comes.
        prefix: The path at which the root is seen, `"/static/"` for example; what is not below it is not found.
        index: The name of the file that stands for a directory.

    Raises:
        OSError: `root` is not a directory, or cannot be looked into.
        ValueError: `prefix` does not begin with a slash, or `index` is no name.
    """
    top = os.path.abspath(os.fspath(root))
    os.close(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    if not prefix.startswith("/"):
        raise ValueError(f"prefix must begin with a slash, not {prefix!r}")
    if index in ("", ".", "..") or "/" in index or "\0" in index:
        raise ValueError(f"index must be the name of a file, not {index!r}")
    below = prefix.rstrip("/") + "/"

    async def handler(request: Request, response: Response) -> None:
        response.headers["X-Content-Type-Options"] = "nosniff"
        if request.method not in _METHODS:
            response.headers["Allow"] = ", ".join(_METHODS)
            await _refuse(response, 405)
        elif request.path + "/" == below:
            await _redirect(request, response)
        elif (names := _names(request, below)) is None:
            await _refuse(response, 404)
        else:
            await _Lookup(top, names, index, request, response).answer()

    return handler


def _names(request: Request, below: str) -> list[bytes] | None:
    """Give the names that a path consists of, the last one empty for a directory; None for what is never found."""
    if not request.path.startswith(below) or "%2f" in request.raw_path.lower():
        return None
    names = request.path[len(below) :].split("/")
    return None if any(name.startswith(".") for name in names) else [name.encode() for name in names]


class _Lookup:
    """One request for something beneath the root."""

    __slots__ = ("_index", "_names", "_request", "_response", "_root")

    def __init__(self, root: str, names: list[bytes], index: str, request: Request, response: Response) -> None:
        self._root = root
        self._names = names
        self._index = index
        self._request = request
        self._response = response

    async def answer(self) -> None:
        names, name = self._names, self._names[-1].decode()
        if not name:
            names, name = [*names[:-1], os.fsencode(self._index)], self._index
        try:
            fd = open_cached(self._root, names)
            if fd is None:
                fd = await trio.to_thread.run_sync(open_beneath, self._root, names)
        except OSError as exc:
            if exc.errno not in _STATUS_OF:
                raise
            await _refuse(self._response, _STATUS_OF[exc.errno])
            return
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                await self._give(fd, status, name)
            elif stat.S_ISDIR(status.st_mode) and self._names[-1]:
                await _redirect(self._request, self._response)
            else:
                await _refuse(self._response, 404)
        finally:
            os.close(fd)

    async def _give(self, fd: int, status: os.stat_result, name: str) -> None:
        response, size, now = self._response, status.st_size, int(time.time())
        etag = etag_of(status.st_mtime_ns, size)
        modified = max(0, min(status.st_mtime_ns // 10**9, now))  # never later than Date (RFC 9110 8.8.2.1)
        start, stop = 0, size
        match decide(self._request.method, self._request.headers, size=size, etag=etag, modified=modified, now=now):
            case PreconditionFailed():
                await _refuse(response, 412)
                return
            case Unsatisfiable(total):
                response.headers["Content-Range"] = f"bytes */{total}"
                await _refuse(response, 416)
                return
            case NotModified():
                response.status = 304
            case Part(start, stop):
                response.status = 206
                response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            case Whole():  # pragma: no branch - there is no sixth outcome
                pass
        response.headers["ETag"] = etag
        response.headers["Last-Modified"] = format_date(modified)
        response.headers["Accept-Ranges"] = "bytes"
        if response.status == 304:
            await response.send(b"")
            return
        response.headers.setdefault("Content-Type", content_type(name))
        response.headers["Content-Length"] = str(stop - start)
        await _stretch(fd, status, start, stop, name).pipe(response)


@dataclass(frozen=True, slots=True)
class _Held:
    """A stretch of a file that is open already, and stays its holder's to close."""

    stretch: OpenStretch

    def open(self) -> AbstractAsyncContextManager[OpenStretch]:
        return nullcontext(self.stretch)


def _stretch(fd: int, status: os.stat_result, start: int, stop: int, name: str) -> Readable[bytes]:
    async def run(output: SendChannel[bytes]) -> None:
        await send_all(reader_of(fd, status, start, stop, None), output, None)

    return Readable[bytes].of(Stage(label("file", name), function=run), region=_Held(OpenStretch(fd, start, stop)))


async def _redirect(request: Request, response: Response) -> None:
    """Send the client to the same path with a slash behind it: a path alone, so that no other host is named."""
    query = f"?{request.query}" if request.query else ""
    response.headers["Location"] = quote(request.path, safe=_PLAIN_IN_PATH) + "/" + query
    await _refuse(response, 308)


async def _refuse(response: Response, status: int) -> None:
    """Answer with the status in words; a client that only looks for files can do without."""
    response.status = status
    response.headers["Content-Type"] = "text/plain; charset=utf-8"
    if status == 503:
        response.headers["Retry-After"] = "1"
    await response.send(f"{status} {HTTPStatus(status).phrase}\n".encode())
