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
    """Return a function that checks and parses a head within limits, or raises `RequestError`.

    A client that keeps its connection sends the same head again and again: remembering it saves 30 of the 110 µs that a
    small request took.
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
        received: What came after them.
    """

    __slots__ = ("_received", "_check", "_parser")

    at_once = most = CHUNK

    def __init__(self, head: bytes, received: bytes, limits: Limits) -> None:
        self._check = ChunkCheck(limits)
        self._parser = _parser_of(head, _most_for_an_event(limits))
        _next_event(self._parser)  # the head once more
        self._received = received

    @property
    def is_read(self) -> bool:
        """Whether all of it has come and was taken."""
        return self._parser.their_state not in (h11.SEND_BODY, h11.ERROR)

    def feed(self, data: bytes) -> None:
        """Add what has been received.

        Raises:
            RequestError: it is malformed, too large, or empty, as the client has ended its direction.
        """
        self._check.check(data)
        self._parser.receive_data(data)

    def take(self) -> list[bytes]:
        """Return what has come since the last time, or some of it; it raises as `feed` does."""
        chunks: list[bytes] = []
        if self._received:
            received, self._received = self._received, b""
            self.feed(received)
        while not self.is_read and len(chunks) < _EVENTS:
            event = _next_event(self._parser)
            if isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
            elif event is h11.NEED_DATA:
                break
        return chunks

    @property
    def leftover(self) -> bytes:
        """What has come after the end of this body."""
        return self._parser.trailing_data[0] + self._received


def _most_for_an_event(limits: Limits) -> int:
    """Return how much h11 may gather for one event: heads are limited here, so this is for chunk lines and trailers."""
    return int(min(limits.head_size, 1 << 30))
