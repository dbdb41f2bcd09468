"""What a server has done and has at hand, in numbers."""

from __future__ import annotations


class Counters:
    """Numbers of one server, to be looked at while it runs; each but `open` and `stopping` only grows.

    Attributes:
        connections: Connections accepted.
        open: Connections at this moment.
        requests: Requests that reached the handler.
        received: Bytes received, within TLS where there is TLS.
        sent: Bytes sent, likewise.
        stalls: Clients that were given up because nothing came, or because they took nothing.
        refusals: Requests answered with an error that is theirs, such as one that is malformed or too large.
        failures: Requests whose handler failed.
        stopping: Whether the server has been told to stop.
    """

    __slots__ = ("connections", "failures", "open", "received", "refusals", "requests", "sent", "stalls", "stopping")

    def __init__(self) -> None:
        self.connections = self.open = self.requests = self.received = self.sent = 0
        self.stalls = self.refusals = self.failures = 0
        self.stopping = False

    def as_dict(self) -> dict[str, int]:
        """Give the numbers of this moment by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "stopping"}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={number}" for name, number in self.as_dict().items())
        return f"<Counters {numbers}{', stopping' if self.stopping else ''}>"
