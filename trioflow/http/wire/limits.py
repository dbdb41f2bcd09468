"""Limits on what a client may cost, and the error of a request that the server refuses.

Rule 1: every wait for a client, and everything kept for one, has a limit; the defaults suit a server on the internet.
Rule 2: a client that exceeds a limit gets an error status, if a response is still possible.
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
    """Limits on what a client may cost, in seconds and bytes; `math.inf` turns one off.

    Args:
        line_size: Bytes of the request line; a longer one gets 414.
        head_size: Bytes of the request line and headers together, and of the trailers; more get 431.
        head_count: Header fields of a request, and trailers of its body; more get 431.
        handshake: Seconds for a TLS handshake; then the connection is closed.
        head_time: Seconds for a complete head, counted from its first byte; a slower one gets 408.
        first_byte: Seconds that a connection may be idle before its first request.
        idle: Seconds that a connection may be idle between two requests.
        requests: Requests on one connection; the response to the last one closes it.
        body_size: Bytes of a request's body; a larger one gets 413.
        extension_size: Bytes of all chunk extensions in a body; more get 400.
        framing: Bytes of chunk framing for each byte of the body, with 65536 allowed in addition; more get 400.
        body_stall: Seconds without a byte of a body that the handler is waiting for; then the client gets 408.
        body_rate: Minimum bytes a second of a body that the handler is waiting for; 0 for no minimum. A client may lag
            by `body_stall` seconds in total, then it gets 408.
        drain: Bytes of an unread body of known length that are discarded to keep the connection open; with more, the
            response closes it.
        write_stall: Seconds in which the client reads nothing that is sent to it; then the connection is reset.
        write_rate: Minimum bytes a second that the client reads while the server waits for it, measured over
            `write_stall`; 0 for no minimum.
        half_closed: Seconds to send some of the response after the client has closed its sending side; then the client
            counts as gone, and its handler is cancelled.
        linger: Seconds for the client to read the last response of a connection; what it still sends is discarded.
        linger_stall: Seconds without a byte of what the client still sends after the last response, which must arrive
            at `body_rate`, like a body; then the connection is closed.
        connections: Concurrent connections of each worker process. For each new one, the connection that has been idle
            longest is closed: one that has not sent a complete request, or waits for its next one. If none is idle, the
            new one waits.
        per_client: Concurrent connections of one IPv4 address or one IPv6 /64 network, in all worker processes
            together. For each new one, the client's connection that has been idle longest is closed; if none is idle,
            the new one is. It does not apply to clients of a Unix socket or of trusted proxies.
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
            if isinstance(field.default, float):
                check_positive(field.name, value, may_be_0=field.name in _MAY_BE_0)
            else:
                check_limit(field.name, value, 0 if field.name == "drain" else 1)


class Patience:
    """A budget of seconds to wait for a client that is sending: waiting uses it up, and each byte refills some of it.

    Args:
        most: The budget at the start, which it never exceeds.
        rate: How many bytes refill one second; 0 if any byte refills the whole budget.

    Attributes:
        left: Seconds left.
    """

    __slots__ = ("_most", "_rate", "left")

    def __init__(self, most: float, rate: float) -> None:
        self.left = self._most = most
        self._rate = rate

    def regain(self, size: int, waited: float) -> None:
        """Count `size` bytes that arrived after `waited` seconds."""
        gained = size / self._rate if self._rate else math.inf
        self.left = min(self.left - waited + gained, self._most)


class RequestError(trio.BrokenResourceError):
    """A request that the server refuses, such as one that is malformed, too large or too slow.

    If a handler lets it propagate, the server responds with its status. If the response has begun, it is cut off, and the
    reason is logged.

    Args:
        status: The status to respond with.
        reason: What is wrong, as a sentence; it is not sent to the client.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
