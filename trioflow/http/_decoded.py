"""Compressed request bodies, decompressed only if the handler asks for it, and only up to a limit."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile
from typing import Final

from trioflow._core.channel import SendChannel
from trioflow._core.checks import check_limit, check_type
from trioflow._core.engine import Stage
from trioflow._core.moving import forward
from trioflow._core.streams import Readable, Transform, label
from trioflow.codecs.gzip import gunzip, inflate
from trioflow.codecs.zstd_brotli import brotli_error, unbrotli, unzstd, zstd_error
from trioflow.http._request import Request
from trioflow.http.wire.limits import RequestError

MOST: Final = 10 << 20
_AHEAD: Final = 16  # the weight of 64 KiB


def decoded(request: Request, *, max_size: float = MOST) -> Readable[bytes]:
    """Read a request's body and decompress it as its `Content-Encoding` says; `request.body` leaves it compressed.

    It accepts gzip and deflate (zlib's format, as HTTP means it); zstd and br if `trioflow[zstd]` and `trioflow[brotli]`
    are installed; and a body that is not compressed.

    Emits when: data has been decompressed, in pieces of at most 256 KiB.
    Waits when: its reader does.
    Ends when: the body ends.
    On cancel: the rest is lost.
    Holds: 64 KiB, or one larger piece, in addition to what `request.body` and the decompressing transform hold.

    Args:
        request: The request to read. Its body can be read only once.
        max_size: The most bytes to return, because one byte of gzip can expand to 1,000; `math.inf` for no limit.

    Raises:
        RequestError: at once, for another encoding (415); when it runs, if the body is cut off or cannot be decoded
            (400), or expands to more than `max_size` (413). Let it propagate: the server answers with that status.
        TypeError, ValueError: `max_size` is neither an int of 1 or more, nor `math.inf`.
    """
    check_type("decoded: request", request, Request, "a Request")
    limit = check_limit("max_size", max_size)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()

    async def count(output: SendChannel[bytes]) -> None:
        size = 0
        async with request.body.open(capacity=_AHEAD) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise RequestError(413, f"the body is larger than {limit} bytes")
                await output.send(chunk)

    if encoding in ("", "identity"):
        return Readable._of(Stage(label("decoded"), function=count))
    unpacking, damage = _unpacking(encoding, limit)

    async def unpack(output: SendChannel[bytes]) -> None:
        try:
            async with request.body.pipe(unpacking).open(capacity=_AHEAD) as chunks:
                await forward(chunks, output)
        except (damage, EOFError) as exc:
            raise RequestError(400, f"the body cannot be decoded as {encoding}: {exc}") from exc
        except ValueError as exc:
            raise RequestError(413, f"the body decompresses to more than {limit} bytes") from exc

    return Readable._of(Stage(label("decoded"), function=unpack))


def _unpacking(encoding: str, limit: float) -> tuple[Transform[bytes, bytes], type[Exception]]:
    """Return the transform that undoes an encoding, and what it raises for a damaged body."""
    try:
        match encoding:
            case "gzip" | "x-gzip":
                return gunzip(max_output=limit), BadGzipFile
            case "deflate":
                return inflate(max_output=limit), zlib.error
            case "br":
                return unbrotli(max_output=limit), brotli_error()
            case "zstd":
                return unzstd(max_output=limit), zstd_error()
            case _:
                raise RequestError(415, f"the body has the unsupported encoding {encoding!r}")
    except ImportError as exc:
        raise RequestError(415, f"the body has the encoding {encoding!r}: {exc}") from exc
