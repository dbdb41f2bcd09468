"""One entry in the hands of a receiver, until it is acknowledged, given back, or lost to another receiver."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import trio

from trioflow._core.errors import failure_in
from trioflow.redis.letters import reason_of

T = TypeVar("T", covariant=True)


class Settler(Protocol):
    """What a delivery needs of its receiver."""

    @property
    def decode(self) -> Any:
        """What makes an item of bytes."""

    def settle(self, delivery: Delivery[Any], outcome: Outcome | None) -> None:
        """Note that a delivery is done, or how it is given back."""

    async def has_lost(self, delivery: Delivery[Any]) -> bool:
        """Ask the server whether another receiver has the entry by now."""


class Outcome(NamedTuple):
    """How an entry is given back: the number of tries that count, how the last ended, and whether others failed with it."""

    tries: int
    reason: bytes = b""
    together: bool = False


class Delivery(Generic[T]):
    """One entry in hand. `async with delivery:` acknowledges it if the block succeeds, and gives it back otherwise.

    Attributes:
        id: The server's name for the entry; the same each time it is delivered.
        times: How often the entry has been delivered, including this time.
        lost: Whether another receiver has the entry by now, because this one let its lease run out.
    """

    __slots__ = ("_is_settled", "_raw", "_receiver", "id", "lost", "times")

    def __init__(self, receiver: Settler, entry: str, raw: bytes, times: int) -> None:
        self._receiver = receiver
        self._raw = raw
        self._is_settled = False
        self.id = entry
        self.times = times
        self.lost = False

    @property
    def value(self) -> T:
        """The item, decoded."""
        value: T = self._receiver.decode(self._raw)
        return value

    def done(self) -> None:
        """Acknowledge the entry, which deletes it. The call to the server follows soon. Harmless when repeated."""
        if not self._is_settled:
            self._is_settled = True
            self._receiver.settle(self, None)

    def give_back(self, *, tried: bool = True, error: BaseException | None = None, together: bool = False) -> None:
        """Let any receiver have the entry again; unless `tried`, this was not a try. Harmless when repeated.

        Args:
            tried: Whether this delivery counts as a try.
            error: Why the try failed; shown if the entry becomes a dead letter.
            together: Whether other entries failed in the same try, and any of them may be the cause: the last try is then
                made with nothing else in hand.
        """
        if not self._is_settled:
            self._is_settled = True
            if tried:
                self._receiver.settle(self, Outcome(self.times, reason_of(error), together))
            else:
                self._receiver.settle(self, Outcome(max(self.times - 1, 0)))

    async def is_lost(self) -> bool:
        """Ask the server whether another receiver has the entry by now, or has acknowledged it."""
        return self.lost or await self._receiver.has_lost(self)

    async def __aenter__(self) -> Delivery[T]:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.done()
        else:
            failure = failure_in(exc)
            self.give_back(tried=failure is not None, error=failure)

    def __repr__(self) -> str:
        return f"<Delivery {self.id}, times={self.times}>"
