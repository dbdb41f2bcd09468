"""What a client may cost, and the error of a request that cannot be answered as it asks.

Rule 1: every wait for a client and everything held for one has a limit; the defaults can face the internet.
Rule 2: a client that exceeds one gets a status, if an answer is still possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import trio

from trioflow._core.checks import check_limit, check_positive

_MAY_BE_0: Final = frozenset(("grace", "body_rate", "write_rate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may cost. Seconds and bytes; `math.inf` for no limit.

    Args:
        line_size: Bytes in a request's first line; more is answered with 414.
        head_size: Bytes in a request's line and headers together, and in its trailers; more is answered with 431.
        head_count: Header fields in a request, and trailers; more is answered with 431.
        handshake: Seconds for a TLS handshake; then the connection is closed.
        head_time: Seconds for a whole head, from its first byte; longer is answered with 408.
        first_byte: Seconds a connection may be idle before its first request.
        idle: Seconds a connection may be idle between two requests.
        requests: Requests on one connection; the answer to the last one ends it.
        body_size: Bytes in a request's body; more is answered with 413.
        extension_size: Bytes in the extensions of a body's chunks, all together; more is answered with 400.
        framing: Bytes that frame the chunks of a body, beside 65536, for each byte of it; more is answered with 400.
        body_stall: Seconds without a byte of a body that the handler waits for; longer is answered with 408.
        body_rate: Bytes a second at which a body must come at least while it is waited for, beside one `body_stall` in
            all; slower is answered with 408; 0 for any pace.
        drain: Bytes of a body the handler did not want that are thrown away to keep the connection.
        write_stall: Seconds without the client taking anything that is sent to it; then the connection is cut.
        write_rate: Bytes a second that a client must take at least while it is waited for, measured over `write_stall`;
            0 for any pace.
        half_closed: Seconds in which a client that has ended its direction must be sent something; then it is taken for
            gone, and its handler is cancelled.
        linger: Seconds a closing connection waits until the client has read the last answer; what it still sends is
            thrown away.
        linger_stall: Seconds without a byte of that, which must come at `body_rate`, as a body does; then it is closed.
        connections: Connections at once. For one more, the one that has been at rest longest is closed, which has not
            sent a whole request or waits for its next one; if none is at rest, the new one waits. Each worker process may
            have so many.
        per_client: Connections at once from one IPv4 address or one IPv6 network of 64 bits. For one more, the one of
            them that has been at rest longest is closed; if none is at rest, the new one is. It counts in all worker
            processes together, but not for clients of a Unix socket and of trusted proxies.
        grace: Seconds that requests in progress may still take when the server stops.
    """

    line_size: float = 8192
    head_size: float = 32768
    head_count: float = 100
    handshake: float = 10.0
    head_time: float = 15.0
    first_byte: float = 30.0
    idle: float = 60.0
    requests: float = 10000
    body_size: float = 1 << 30
    extension_size: float = 16384
    framing: float = 4.0
    body_stall: float = 30.0
    body_rate: float = 100.0
    drain: float = 1 << 18
    write_stall: float = 30.0
    write_rate: float = 100.0
    half_closed: float = 1.0
    linger: float = 300.0
    linger_stall: float = 3.0
    connections: float = 1000
    per_client: float = 500
    grace: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MAY_BE_0 and value == 0:
                continue
            if isinstance(field.default, float):
                check_positive(field.name, value)
            else:
                check_limit(field.name, value, 0 if field.name == "drain" else 1)


class Patience:
    """How long a client that sends something is waited for: a second of waiting takes one, each byte gives some back.

    Args:
        most: Seconds, at first and at most.
        rate: Bytes that give one second back; 0 if any byte gives back all.

    Attributes:
        left: Seconds.
    """

    __slots__ = ("_most", "_rate", "left")

    def __init__(self, most: float, rate: float) -> None:
        self.left = self._most = most
        self._rate = rate

    def regain(self, size: int, waited: float) -> None:
        """Count that `size` bytes have come after `waited` seconds."""
        gained = size / self._rate if self._rate else math.inf
        self.left = min(self.left - waited + gained, self._most)


class RequestError(trio.BrokenResourceError):
    """A request that cannot be read to its end. If a handler lets it propagate, the server answers it.

    Args:
        status: The status to answer with.
        reason: What is wrong, in words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
