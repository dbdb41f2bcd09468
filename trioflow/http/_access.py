"""The access log: one `Access` record for each request that was answered."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final, NamedTuple

# Metrics and traces lump all other methods together.
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")  # text that needs no escaping, which nearly all text is


class Access(NamedTuple):
    """One request and its response, for an access log. What the client sent is unchanged, control characters included.

    Attributes:
        time: When the request arrived, in seconds since 1970.
        client: The client's address, as in `Request.client`.
        method: The request's method; `""` if the request could not be read.
        target: The request target, as it was sent.
        status: The status of the response; 0 if nothing was sent.
        sent: Bytes of the response body that were sent.
        seconds: How long the response took.
        is_whole: Whether the whole response was sent.
        referer: The request's `Referer` header.
        agent: The request's `User-Agent` header.
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
        r"""Return a line for people to read. What the client sent is escaped, so it cannot forge another line.

        Example:
            >>> Access(0, ("::1", 80), "GET", "/\n", 200, 5, 0.0012, True, None, 'a"b').as_line()
            '1970-01-01T00:00:00Z ::1 "GET /\\n" 200 5 1.2ms "-" "a\\"b"'
        """
        when, client, method, target, status, sent, seconds, is_whole, referer, agent = self
        asked, told = _quoted_texts(client, method, target, referer, agent)
        cut = "" if is_whole else " cut"
        return f"{_second(int(when))}Z {asked} {status or '-'}{cut} {sent} {seconds * 1000:.1f}ms {told}"

    def as_json(self) -> str:
        """Return a line for programs: a JSON object with these attributes, and `time` in ISO 8601."""
        when = f"{_second(int(self.time))}.{int(self.time % 1 * 1000):03}+00:00"
        texts = (_host(self.client), self.method, self.target, self.referer, self.agent)
        client, method, target, referer, agent = ["null" if text is None else _quoted(text) for text in texts]
        return (  # 3 µs faster than `json.dumps`, for every request
            f'{{"time": "{when}", "client": {client}, "method": {method}, "target": {target}, "status": {self.status}, '
            f'"sent": {self.sent}, "seconds": {self.seconds:.6f}, "is_whole": {"true" if self.is_whole else "false"}, '
            f'"referer": {referer}, "agent": {agent}}}'
        )


def _host(client: object) -> str:
    return str(client[0]) if isinstance(client, tuple) else "unix"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)  # clients repeat their requests, and this is half of what a line costs
def _quoted_texts(client: Any, method: str, target: str, referer: str | None, agent: str | None) -> tuple[str, str]:
    texts = (_host(client), f"{method} {target}" if method else "-", referer or "-", agent or "-")
    host, request, referer, agent = texts if _PLAIN.fullmatch("".join(texts)) else map(_escaped, texts)
    return f'{host} "{request}"', f'"{referer}" "{agent}"'


def _escaped(text: str) -> str:
    """Return `text` with quotes, backslashes and everything but printable ASCII escaped."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
