"""What tests of chunked input share: an input cut at arbitrary places."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

places = st.lists(st.integers(0, 10_000), max_size=12)


def cut(whole: Any, places: Sequence[int]) -> list[Any]:
    """Cut at places modulo the length; the same place twice gives an empty chunk."""
    at = sorted(place % (len(whole) + 1) for place in places)
    return [whole[start:stop] for start, stop in pairwise([0, *at, len(whole)])]


def in_twos(whole: Any) -> list[Any]:
    return [whole[i : i + 2] for i in range(0, len(whole), 2)]
