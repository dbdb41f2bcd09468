"""What is told of each answered request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Access(NamedTuple):
    """One request and its answer. What the client sent stands in it as it came, controls and all.

    Attributes:
        time: When the request had come, in seconds since 1970.
        client: The client's address, as `Request.client` gives it.
        method: The request's method; `""` where no request could be read.
        target: Its target as it was sent.
        status: The status of the answer; 0 where nothing was sent.
        sent: Bytes of the answer's body.
        seconds: How long it took to answer.
        is_whole: Whether the answer was sent to its end.
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
        r"""Give one line for people, in which nothing a client has sent can look like another.

        Example:
            >>> Access(0, ("::1", 80), "GET", "/\n", 200, 5, 0.0012, True, None, 'a"b').as_line()
            '1970-01-01T00:00:00Z ::1 "GET /\\n" 200 5 1.2ms "-" "a\\"b"'
        """
        when = datetime.fromtimestamp(int(self.time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        asked = f'"{_escaped(f"{self.method} {self.target}")}"' if self.method else '"-"'
        told = f'"{_escaped(self.referer or "-")}" "{_escaped(self.agent or "-")}"'
        status = f"{self.status or '-'}{'' if self.is_whole else ' cut'}"
        return f"{when} {_escaped(self._host)} {asked} {status} {self.sent} {self.seconds * 1000:.1f}ms {told}"

    def as_json(self) -> str:
        """Give one line for programs: an object with the names of this one, `time` as ISO 8601 has it."""
        when = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        return json.dumps({**self._asdict(), "time": when, "client": self._host, "seconds": round(self.seconds, 6)})

    @property
    def _host(self) -> str:
        return str(self.client[0]) if isinstance(self.client, tuple) else "unix"


def _escaped(text: str) -> str:
    """Escape what is no plain ASCII, the quote and the backslash."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
