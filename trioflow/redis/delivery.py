"""One entry in the hands of a receiver, until it is acknowledged, given back, or lost to another receiver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import trio

from trioflow._core.errors import failure_in
from trioflow.redis.entry import entry_of
from trioflow.redis.letters import reason_of
from trioflow.redis.options import delay_of

T = TypeVar("T", covariant=True)


class Settler(Protocol):
    """The part of a receiver that its deliveries use."""

    @property
    def decode(self) -> Any:
        """The function that decodes an item."""
        ...

    def settle(self, delivery: Delivery[Any], outcome: Outcome | None) -> None:
        """Note that a delivery is acknowledged, or how it is given back."""
        ...

    def delay_after(self, tries: int, /) -> int:
        """Return the retry delay after a number of tries, in milliseconds."""
        ...

    async def has_lost(self, delivery: Delivery[Any]) -> bool:
        """Ask the server whether another receiver has the entry by now."""
        ...


class Outcome(NamedTuple):
    """How an entry is given back."""

    tries: int  # tries that count
    reason: bytes = b""  # how the last try ended
    together: bool = False  # whether other entries failed with it
    delay: int = 0  # milliseconds in which it is not delivered


class Delivery(Generic[T]):
    """A delivered entry. `async with delivery:` acknowledges it if the block succeeds, and gives it back otherwise.

    Attributes:
        id: The server's name for the entry; the same each time it is delivered.
        times: How often the entry has been delivered, including this time.
        lost: Whether another receiver has the entry by now, because this one let its lease run out.
    """

    __slots__ = ("_fields", "_is_settled", "_receiver", "id", "lost", "times")

    def __init__(self, receiver: Settler, name: str, fields: Sequence[bytes], times: int) -> None:
        self._receiver = receiver
        self._fields = fields
        self._is_settled = False
        self.id = name
        self.times = times
        self.lost = False

    @property
    def value(self) -> T:
        """The item, decoded."""
        value: T = self._receiver.decode(entry_of(self._fields))
        return value

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that it was sent with, read-only."""
        return entry_of(self._fields).headers

    @property
    def key(self) -> str | None:
        """The key that it was sent with, or None."""
        return entry_of(self._fields).key

    def done(self) -> None:
        """Acknowledge the entry, which deletes it. The server is told soon after. Harmless when repeated."""
        if not self._is_settled:
            self._is_settled = True
            self._receiver.settle(self, None)

    def give_back(
        self,
        *,
        tried: bool = True,
        error: BaseException | None = None,
        together: bool = False,
        delay: float | None = None,
    ) -> None:
        """Let any receiver have the entry again. Harmless when repeated.

        Args:
            tried: Whether this delivery counts as a try.
            error: Why the try failed; shown if the entry becomes a dead letter.
            together: Whether other entries failed in the same try and any of them may be the cause. The last try is
                then made with nothing else in hand.
            delay: The seconds in which it is not delivered again. The default is the receiver's retry delay, or 0 if
                not `tried`.

        Raises:
            TypeError, ValueError: `delay` is not a number from 0 to 1,000,000,000.
        """
        pause = self._receiver.delay_after(self.times) if tried and delay is None else delay_of(delay or 0)
        if not self._is_settled:
            self._is_settled = True
            if tried:
                self._receiver.settle(self, Outcome(self.times, reason_of(error), together, pause))
            else:
                self._receiver.settle(self, Outcome(max(self.times - 1, 0), delay=pause))

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
