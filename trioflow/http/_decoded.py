"""Bodies that came compressed, inflated where a handler asks for it, and never beyond what it allows."""

from __future__ import annotations

from gzip import BadGzipFile
from typing import Final

from trioflow._channel import SendChannel
from trioflow._checks import check_limit
from trioflow._engine import Stage
from trioflow._foreign import forward
from trioflow._streams import Readable, label
from trioflow.compression import gunzip
from trioflow.http._limits import RequestError
from trioflow.http._messages import Request

MOST: Final = 10 << 20
_AHEAD: Final = 16  # the weight of 64 KiB


def decoded(request: Request, *, max_size: float = MOST) -> Readable[bytes]:
    """Give a request's body without its `Content-Encoding`: gzip, or none. `request.body` leaves it as it came.

    Emits when: something has been inflated, in pieces of at most 64 KiB.
    Waits when: its reader does.
    Ends when: the body does.
    On cancel: the rest is lost.
    Holds: 64 KiB beside what `request.body` and `gunzip` hold.

    Args:
        request: Its body is read, which it can be once (R4).
        max_size: The most bytes to give: gzip makes up to 1,000 bytes of one. `math.inf` for no limit.

    Raises:
        RequestError: at once, for another encoding (415); running it, where the body is not gzip or was cut off (400),
            or is longer (413). Leave it to the server to answer.
        TypeError, ValueError: `max_size` is neither an int of 1 or more, nor `math.inf`.
    """
    if not isinstance(request, Request):
        raise TypeError(f"decoded wants a Request, not {request!r}")
    limit = check_limit("max_size", max_size)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RequestError(415, f"the body is encoded as {encoding!r}, which is not known")

    async def inflate(output: SendChannel[bytes]) -> None:
        try:
            async with request.body.pipe(gunzip(max_output=limit)).open(capacity=_AHEAD) as chunks:
                await forward(chunks, output)
        except (BadGzipFile, EOFError) as exc:
            raise RequestError(400, f"the body is not what its encoding says: {exc}") from exc
        except ValueError as exc:
            raise RequestError(413, f"the body inflates to more than {limit} bytes") from exc

    async def count(output: SendChannel[bytes]) -> None:
        size = 0
        async with request.body.open(capacity=_AHEAD) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise RequestError(413, f"the body is larger than {limit} bytes")
                await output.send(chunk)

    return Readable[bytes].of(Stage(label("decoded"), function=inflate if "gzip" in encoding else count))
