"""What is logged of each answered request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Access(NamedTuple):
    """One request and its answer. What the client sent is in it unchanged, control characters included.

    Attributes:
        time: When the request arrived, in seconds since 1970.
        client: The client's address, as in `Request.client`.
        method: The request's method; `""` if the request could not be read.
        target: Its target as it was sent.
        status: The status of the answer; 0 if nothing was sent.
        sent: Bytes of the answer's body.
        seconds: How long the answer took.
        is_whole: Whether all of the answer was sent.
        referer: The request's `Referer`.
        agent: Its `User-Agent`.
    """

    time: float
    client: Any
    method: str
    target: str
    status: int
    sent: int
    seconds: float
    is_whole: bool
    referer: str | None
    agent: str | None

    def as_line(self) -> str:
        r"""Return one line for people to read; what a client sent is escaped, so it cannot forge another line.

        Example:
            >>> Access(0, ("::1", 80), "GET", "/\n", 200, 5, 0.0012, True, None, 'a"b').as_line()
            '1970-01-01T00:00:00Z ::1 "GET /\\n" 200 5 1.2ms "-" "a\\"b"'
        """
        when = datetime.fromtimestamp(int(self.time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = f'"{_escaped(f"{self.method} {self.target}")}"' if self.method else '"-"'
        sender = f'"{_escaped(self.referer or "-")}" "{_escaped(self.agent or "-")}"'
        status = f"{self.status or '-'}{'' if self.is_whole else ' cut'}"
        return f"{when} {_escaped(self._host)} {request} {status} {self.sent} {self.seconds * 1000:.1f}ms {sender}"

    def as_json(self) -> str:
        """Return one line for programs: a JSON object with the attributes of this one, `time` in ISO 8601."""
        when = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        return json.dumps({**self._asdict(), "time": when, "client": self._host, "seconds": round(self.seconds, 6)})

    @property
    def _host(self) -> str:
        return str(self.client[0]) if isinstance(self.client, tuple) else "unix"


def _escaped(text: str) -> str:
    """Escape quotes, backslashes, and what is not printable ASCII."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
