"""Responds with an open file: the whole file, parts of it, or 304 if the client already has it.

Rule 1: everything is decided from the open file. If it becomes shorter meanwhile, the response fails, so that the
    client can tell that it is incomplete (R13); if it becomes longer, it is sent at its earlier size.
Rule 2: a tag identifies the bytes that are sent: each variant of a file has its own (RFC 9110 8.8.3), and so does each
    content, even if a file was replaced by one of the same size and date.
Rule 3: a redirect is relative to the path that the client sent: a proxy or a handler may have added or removed a
    prefix. So it never leads to another host either.
"""

from __future__ import annotations

import errno
import gzip
import secrets
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

from trioflow._core.channel import SendChannel
from trioflow._core.engine import Stage
from trioflow._core.shortcuts import OpenRegion
from trioflow._core.streams import Readable, label
from trioflow.codecs.gzip import gzip as gzipped
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http.file_server.conditions import (
    CONDITIONAL,
    WHOLE,
    NotModified,
    Parts,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    decide,
    etag_of,
)
from trioflow.http.file_server.cors import fields_for, preflight_fields
from trioflow.http.file_server.dates import format_date
from trioflow.http.file_server.lookup import OpenFile
from trioflow.http.file_server.ranges import Part, framing
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.response_writer import accepts_html, error_page
from trioflow.io.file_reader import FileReader, send_all

LEVEL: Final = 6  # of gzip: level 9 takes twice as long for 1 % less
_PLAIN_IN_PATH: Final = "/~!$&'()*+,;=:@"  # may be in a path unescaped (RFC 3986 3.3), besides letters and digits

# Any other error gets 500.
_STATUS_OF: Final = {errno.EACCES: 403, errno.EPERM: 403, errno.EMFILE: 503, errno.ENFILE: 503} | dict.fromkeys(
    (
        errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EINVAL,
    ),
    404,
)  # fmt: skip

Content: TypeAlias = bytes | memoryview | None


class File(NamedTuple):
    """What a response says about a file, and its bytes if they are in memory."""

    name: str
    kind: str
    size: int
    etag: str
    modified: int
    is_dated: bool  # not changed since the second of `modified`
    validators: Headers  # the header fields of a 304
    headers: Headers
    content: Content
    is_compressed_on_the_way: bool


def describe(
    name: str, kind: str, opened: OpenFile, content: Content, coding: str | None, common: Headers, *, compresses: bool
) -> File:
    """Return the description of an open file, or of a precompressed variant of it.

    If it `compresses`, the file is compressed while it is sent. Then it has no ranges, because its length is unknown.
    """
    status = opened.status
    size = status.st_size
    now_ns, changed_ns = time.time_ns(), status.st_ctime_ns
    modified = max(0, min(opened.modified, now_ns // 10**9))  # never later than Date (RFC 9110 8.8.2.1)
    etag = etag_of(status.st_ino, changed_ns, status.st_mtime_ns, size, coding or "", now_ns)
    if compresses:
        etag = "W/" + etag.removeprefix("W/")  # weak: another version of zlib may compress it to different bytes
    validators = Headers([("ETag", etag), ("Last-Modified", format_date(modified))])
    if not compresses:
        validators["Accept-Ranges"] = "bytes"
    validators.fill(common)
    headers = Headers([("Content-Type", kind)])
    if coding is not None:
        headers["Content-Encoding"] = coding
    headers.fill(validators)
    if compresses and content is not None:
        content = gzip.compress(content, LEVEL, mtime=0)
    is_dated = changed_ns // 10**9 == modified
    return File(
        name, kind, size, etag, modified, is_dated, validators, headers, content, compresses and content is None
    )


async def respond(file: File, opened: OpenFile | None, request: Request, response: Response) -> None:
    """Send a file as the request and its conditions ask. `opened` may be None if the content is in memory."""
    headers = response.headers
    outcome = WHOLE
    if request.headers._has_any(CONDITIONAL):
        outcome = decide(
            request.method,
            request.headers,
            size=file.size,
            etag=file.etag,
            modified=file.modified,
            is_dated=file.is_dated,
            now=int(time.time()),
        )
    if headers._all_of("vary") and "vary" in file.validators:
        headers.add("Vary", file.validators["vary"])
    match outcome:
        case Whole():
            headers.fill(file.headers)
            await _send_stretch(file, opened, 0, file.size, response)
        case NotModified():
            response.status = 304
            headers.fill(file.validators)
            await response.send(b"")
        case Part(start, stop) as part:
            response.status = 206
            headers["Content-Range"] = part.content_range(file.size)
            headers.fill(file.headers)
            await _send_stretch(file, opened, start, stop, response)
        case Parts(parts):
            response.status = 206
            await _send_parts(file, opened, parts, response)
        case PreconditionFailed():
            await refuse(request, response, 412)
        case Unsatisfiable(total):  # pragma: no branch - there is no other outcome
            headers["Content-Range"] = f"bytes */{total}"
            await refuse(request, response, 416)


def _send_stretch(
    file: File, opened: OpenFile | None, start: int, stop: int, response: Response
) -> Coroutine[Any, Any, object]:
    if file.content is not None:
        content = file.content
        return response.send(content if stop - start == file.size else content[start:stop])
    assert opened is not None
    if file.is_compressed_on_the_way:
        return _read_whole(file, opened).pipe(gzipped(level=LEVEL)).pipe(response)
    return response._sender.send_region(OpenRegion(opened.fd, start, stop))


async def _send_parts(file: File, opened: OpenFile | None, parts: Sequence[Part], response: Response) -> None:
    headers = response.headers
    boundary = secrets.token_hex(16)
    framed = framing(parts, size=file.size, kind=headers.get("content-type", file.kind), boundary=boundary)
    headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    headers["Content-Length"] = str(framed.length)
    headers.fill(file.headers)

    async def run(output: SendChannel[bytes]) -> None:
        for head, (start, stop) in zip(framed.heads, parts, strict=True):
            await output.send(head)
            if file.content is not None:
                await output.send(bytes(file.content[start:stop]))
            else:
                assert opened is not None
                await _read_stretch(opened, start, stop, output)
        await output.send(framed.tail)

    await Readable._of(Stage(label("parts", file.name), function=run)).pipe(response)


def _read_whole(file: File, opened: OpenFile) -> Readable[bytes]:
    async def run(output: SendChannel[bytes]) -> None:
        await _read_stretch(opened, 0, file.size, output)

    return Readable._of(Stage(label("file", file.name), function=run))


async def _read_stretch(opened: OpenFile, start: int, stop: int, output: SendChannel[bytes]) -> None:
    reader = FileReader(opened.fd, opened.status.st_size, start, stop, None)
    await send_all(reader, output, None)
    if reader.at < stop:  # what follows, such as the head of the next part, would be taken for its bytes
        raise EOFError(f"the file ended at byte {reader.at}, {stop - reader.at} bytes before it should")


async def redirect(request: Request, response: Response) -> None:
    """Redirect the client to the same path with a slash at the end."""
    query = f"?{request.query}" if request.query else ""
    if name := request.raw_path.rpartition("/")[2]:
        path = "./" + quote(name, safe=_PLAIN_IN_PATH + "%")
    else:  # a handler has set a path without the slash that the client sent
        path = quote(request._path.encode("utf-8", "surrogateescape"), safe=_PLAIN_IN_PATH)
    response.headers["Location"] = f"{path}/{query}"
    await refuse(request, response, 301)  # not 308, which Python's urllib before 3.11 fails on: this is a GET or a HEAD


async def refuse(request: Request, response: Response, status: int) -> None:
    """Send the error page for a status."""
    headers, body = error_page(status, is_html=accepts_html(request.headers))
    response.status = status
    response.headers["Content-Type"] = headers["Content-Type"]
    if "vary" in response.headers:
        response.headers.add("Vary", headers["vary"])
    response.headers.fill(headers)
    await response.send(body)


async def send_missing_page(opened: OpenFile, kind: str, response: Response) -> None:
    """Send a file as the page of a 404: always whole, and without a tag, a date or ranges."""
    response.status = 404
    response.headers["Content-Type"] = kind
    response.headers["X-Content-Type-Options"] = "nosniff"
    await response._sender.send_region(OpenRegion(opened.fd, 0, opened.status.st_size))


def status_of(exc: OSError) -> int:
    """Return the status for an error of a lookup; raise the error again if the client could do nothing about it."""
    if exc.errno not in _STATUS_OF:
        raise exc
    return _STATUS_OF[exc.errno]


def add_cors_fields(origins: frozenset[str], methods: Sequence[str], request: Request, response: Response) -> bool:
    """Set the CORS header fields, and return whether the request is a preflight, which needs no more than these."""
    asked = request.headers
    for name, value in fields_for(origins, asked.get("origin")):
        response.headers.add(name, value)
    if request.method != "OPTIONS" or "access-control-request-method" not in asked:
        return False
    for name, value in preflight_fields(", ".join(methods)):
        response.headers[name] = value
    return True
