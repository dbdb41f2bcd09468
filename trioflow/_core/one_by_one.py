"""The reading end of a channel whose items should be taken as late as possible."""

from __future__ import annotations

from typing import TypeVar

from trioflow._core.channel import ReceiveChannel

T = TypeVar("T", covariant=True)


class OneByOne(ReceiveChannel[T]):
    """A receiving end that takes one item at a time, even where a batch was asked for.

    Until then the next item can go to another reader, or make way for a newer one.
    """

    __slots__ = ()
    _most = 1


def one_by_one(channel: ReceiveChannel[T]) -> OneByOne[T]:
    """Return `channel` in the form that takes one item at a time, and close the other."""
    made = OneByOne[T](channel._buffer)
    channel.close()
    return made
