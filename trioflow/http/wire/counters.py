"""A server's counters."""

from __future__ import annotations


class Counters:
    """What one server has done so far, to read while it runs. Numbers only grow, except `open`.

    Attributes:
        connections: Connections accepted.
        open: Connections open now.
        requests: Requests that reached the handler.
        received: Bytes received; with TLS, as encrypted, including the handshake.
        sent: Bytes sent; with TLS, as encrypted, including the handshake.
        stalls: Clients that were dropped because they sent or read too little for too long.
        refusals: Requests refused because of the client, such as malformed or too large ones.
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
