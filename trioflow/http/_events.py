"""Server-sent events, the format that a browser's `EventSource` reads.

Rule 1: a line end in an event's name or id is refused when the event is made; data may have any number of lines.
Rule 2: a quiet stream sends comments, because proxies close silent connections and only a write shows that a client
    has gone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import trio

from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.checks import check_positive
from trioflow._core.makers import differing, task
from trioflow._core.streams import Transform
from trioflow.http._request import Request

KEEP_ALIVE: Final = 15.0  # seconds: shorter than the idle timeout of the usual proxies
_COMMENT: Final = b":\n\n"
_LINE_END: Final = re.compile("\r\n|\r|\n")  # `str.splitlines` splits at characters that an EventSource does not


@dataclass(frozen=True, slots=True)
class Event:
    r"""One server-sent event.

    Args:
        data: What the client's event handler receives. With None no message is sent; `id` and `retry` still take effect.
        event: The event name that the client listens for; without it the client uses `"message"`.
        id: What the client sends as `Last-Event-ID` when it reconnects; `""` clears it.
        retry: How many seconds the client waits before it reconnects.

    Raises:
        TypeError: `data`, `event` or `id` is not a `str`, or `retry` is not a number.
        ValueError: `event` or `id` contains a line end, `id` contains a NUL, or `retry` is below 0 or infinite.

    Example:
        >>> Event("1 °C", event="weather", id="7").encode()
        b'event: weather\nid: 7\ndata: 1 \xc2\xb0C\n\n'
    """

    data: str | None = None
    event: str | None = None
    id: str | None = None
    retry: float | None = None

    def __post_init__(self) -> None:
        for name in ("data", "event", "id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"Event: {name} must be a str, got {value!r}")
            if value and name != "data" and _LINE_END.search(value):
                raise ValueError(f"Event: {name} must not contain a line end, got {value!r}")
        if self.id and "\0" in self.id:
            raise ValueError(f"Event: id must not contain a NUL, because clients ignore such an id; got {self.id!r}")
        if self.retry is not None and check_positive("retry", self.retry, may_be_0=True) == math.inf:
            raise ValueError("Event: retry must be finite, got inf")

    def encode(self) -> bytes:
        """Return the bytes of the event, as the client receives them."""
        parts: list[str] = []
        if self.event is not None:
            parts.append(f"event: {self.event}\n")
        if self.id is not None:
            parts.append(f"id: {self.id}\n")
        if self.retry is not None:
            parts.append(f"retry: {round(self.retry * 1000)}\n")
        if self.data is not None:
            parts += (f"data: {line}\n" for line in _LINE_END.split(self.data))
        parts.append("\n")
        return "".join(parts).encode()


def events(*, keep_alive: float = KEEP_ALIVE) -> Transform[Event | str, bytes]:
    r"""Encode events for a browser's `EventSource`. A `str` is sent as the data of an event.

    Set the content type, and use `last_event_id` to resume after the last event that the client received:

        response.headers["content-type"] = "text/event-stream"
        response.headers["cache-control"] = "no-store"
        await news(since=http.last_event_id(request)).pipe(http.events()).pipe(response)

    If the first event may be late, call `await response.start()` first, so that the client knows at once that it is
    connected.

    Emits when: events have arrived, as one chunk for all that arrived together; or no event has arrived for `keep_alive`
        seconds, as a comment, `:`.
    Waits when: its reader does; comments do not pile up meanwhile.
    Ends when: the source ends. The client then reconnects, unless you answer its next request with 204.
    On cancel: nothing is lost.
    Holds: one batch.

    Args:
        keep_alive: Seconds without an event before a comment is sent; `math.inf` for no comments.

    Raises:
        TypeError: `keep_alive` is not a number, or an item is neither an `Event` nor a `str`.
        ValueError: `keep_alive` is not above 0.

    Example:
        >>> feed = tf.from_iterable(["one", Event("two\nlines", id="2")])
        >>> print(run(feed.pipe(events()).pipe(tf.join())).decode(), end="")
        data: one
        <BLANKLINE>
        id: 2
        data: two
        data: lines
        <BLANKLINE>
    """
    check_positive("keep_alive", keep_alive)

    async def run(source: ReceiveChannel[Event | str], output: SendChannel[bytes]) -> None:
        chunk = b""  # to be sent next; a cancelled `send` has not sent it
        sent_at = trio.current_time()
        due = sent_at + keep_alive
        while True:
            with trio.CancelScope(deadline=due):  # one for many events, as one for each event took 4 of its 30 µs
                while True:
                    if chunk:
                        await output.send(chunk)
                        chunk = b""
                        sent_at = trio.current_time()
                    try:
                        chunk = b"".join(map(_encoded, await source.receive_many()))
                    except trio.EndOfChannel:
                        return
            now = trio.current_time()
            if not chunk and now >= sent_at + keep_alive:
                chunk = _COMMENT
            due = (now if chunk else sent_at) + keep_alive

    return task(run, "events", **differing(keep_alive=(keep_alive, KEEP_ALIVE)))


def _encoded(item: Any) -> bytes:
    if isinstance(item, Event):
        return item.encode()
    if isinstance(item, str):
        return Event(item).encode()
    raise TypeError(f"events: each item must be an Event or a str, got {type(item).__name__}")


def last_event_id(request: Request) -> str | None:
    """Return the id of the last event that this client received, or None if it did not send one.

    Do not trust it: a client can name an event that you never sent.
    """
    value = request.headers.get("last-event-id")
    return None if not value else value.encode("latin-1").decode("utf-8", "replace")
