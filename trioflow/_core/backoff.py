"""Pauses between attempts, for `retry` and for clients whose server is down."""

from __future__ import annotations

import random

from trioflow._core.checks import check_positive


class Backoff:
    """Pauses that double up to a maximum, with jitter so that clients that failed together do not retry in lockstep."""

    def __init__(self, initial: float, maximum: float, jitter: float) -> None:
        check_positive("initial", initial)
        check_positive("maximum", maximum)
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)):
            raise TypeError(f"jitter must be a number, got {jitter!r}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, got {jitter}")
        self._initial, self._maximum, self._jitter = initial, maximum, jitter
        self._longest = initial  # the next pause, before `maximum` and jitter shorten it

    def reset(self) -> None:
        """Start again with the initial pause."""
        self._longest = self._initial

    def pause(self) -> float:
        """Return the seconds to wait before the next attempt. The pause after that is twice as long."""
        longest = min(self._longest, self._maximum)
        self._longest = longest * 2.0
        return longest * (1 - self._jitter * random.random())
