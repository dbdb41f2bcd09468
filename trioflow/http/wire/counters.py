"""What a server has done and is doing, in numbers."""

from __future__ import annotations


class Counters:
    """Numbers of one server, to read while it runs; each but `open` and `stopping` only grows.

    Attributes:
        connections: Connections accepted.
        open: Connections at this moment.
        requests: Requests that reached the handler.
        received: Bytes received, within TLS where there is TLS.
        sent: Bytes sent, likewise.
        stalls: Clients that were dropped because they sent nothing, or read nothing.
        refusals: Requests answered with a client error, such as one that is malformed or too large.
        failures: Requests whose handler failed.
        stopping: Whether the server is stopping.
    """

    __slots__ = ("connections", "failures", "open", "received", "refusals", "requests", "sent", "stalls", "stopping")

    def __init__(self) -> None:
        self.connections = self.open = self.requests = self.received = self.sent = 0
        self.stalls = self.refusals = self.failures = 0
        self.stopping = False

    def as_dict(self) -> dict[str, int]:
        """Return the current numbers by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "stopping"}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={number}" for name, number in self.as_dict().items())
        return f"<Counters {numbers}{', stopping' if self.stopping else ''}>"
