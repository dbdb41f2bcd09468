"""Heads and chunked bodies, checked and parsed. The only user of h11.

Rule 1: a head is parsed as a whole and alone; each body has a parser of its own.
Rule 2: what h11 lets pass and we do not is checked before it sees it.
Rule 3: what cannot be read is a `RequestError` that carries the status to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import h11

from trioflow.http.wire.limits import Limits, RequestError
from trioflow.http.wire.request_head import Head
from trioflow.http.wire.socket import CHUNK
from trioflow.http.wire.strict import ChunkCheck, check_head

_EVENTS: Final = 64  # of a body, parsed between two yields: tiny chunks cost 18 µs each
_KNOWN_SIZE: Final = 2048  # bytes of a head that is worth remembering
_KNOWN: Final = 256  # heads: half a MiB at most


@lru_cache(maxsize=8)
def reader_of(limits: Limits) -> Callable[[bytes], Head]:
    """Make what checks and parses a head within limits; it raises `RequestError`.

    A client that stays sends the same bytes again and again, and what they say is the same each time: remembering it
    saves 30 of the 110 µs that a small request took.
    """

    def read(data: bytes) -> Head:
        check_head(data, limits)
        event = _next_event(_parser_of(data, len(data)))
        if not isinstance(event, h11.Request):  # pragma: no cover - h11 and we agree where a head ends
            raise RequestError(400, "the request's head is not one")
        is_old = event.http_version < b"1.1"
        return Head(event.method.decode("ascii"), event.target.decode("ascii"), list(event.headers), is_old=is_old)

    known = lru_cache(maxsize=_KNOWN)(read)
    return lambda data: known(data) if len(data) <= _KNOWN_SIZE else read(data)


def _parser_of(data: bytes, most: int) -> h11.Connection:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=most)
    parser.receive_data(data)
    return parser


def _next_event(parser: h11.Connection) -> object:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as exc:
        raise RequestError(exc.error_status_hint, str(exc)) from exc


class Chunked:
    """A body in chunks: checked, then parsed (RFC 9112 7.1).

    Args:
        head: The bytes of the request's head.
        ahead: What came behind them.
    """

    __slots__ = ("_ahead", "_check", "_parser")

    at_once = most = CHUNK

    def __init__(self, head: bytes, ahead: bytes, limits: Limits) -> None:
        self._check = ChunkCheck(limits)
        self._parser = _parser_of(head, _most_for_an_event(limits))
        _next_event(self._parser)  # the head once more
        self._ahead = ahead

    @property
    def is_read(self) -> bool:
        """Whether all of it has come and was taken."""
        return self._parser.their_state not in (h11.SEND_BODY, h11.ERROR)

    def feed(self, data: bytes) -> None:
        """Add what has been received.

        Raises:
            RequestError: it is malformed, larger than it may be, or nothing: the client has ended its direction.
        """
        self._check.check(data)
        self._parser.receive_data(data)

    def take(self) -> list[bytes]:
        """Give what has come since the last time, or a good part of it; it raises as `feed` does."""
        chunks: list[bytes] = []
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self.feed(ahead)
        while not self.is_read and len(chunks) < _EVENTS:
            event = _next_event(self._parser)
            if isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
            elif event is h11.NEED_DATA:
                break
        return chunks

    @property
    def behind(self) -> bytes:
        """What has come and is no more of this body."""
        return self._parser.trailing_data[0] + self._ahead


def _most_for_an_event(limits: Limits) -> int:
    """Give what h11 may gather for one event; heads are limited here, so that chunk lines and trailers are left."""
    return int(min(limits.head_size, 1 << 30))
