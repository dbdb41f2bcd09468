"""A form of many small parts is read in small steps, so that other clients are served meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.http.forms.test_forms import END, all_of, part, posted
from trioflow.http.forms.multipart import Multipart


class Step(trio.abc.Instrument):
    """Counts what is done within one step of a task."""

    def __init__(self) -> None:
        self.done = self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.done = 0

    def count(self) -> None:
        self.done += 1
        self.most = max(self.most, self.done)


async def test_a_form_of_many_small_parts_is_read_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step()
    feed = Multipart.feed

    def counted(self: Multipart, chunk: bytes) -> Iterator[Any]:
        for event in feed(self, chunk):
            step.count()
            yield event

    monkeypatch.setattr(Multipart, "feed", counted)
    trio.lowlevel.add_instrument(step)
    try:
        found = await posted(all_of, part('name="a"') * 900 + END)
    finally:
        trio.lowlevel.remove_instrument(step)

    assert found == [("a", None, b"")] * 900
    assert step.most <= 32
