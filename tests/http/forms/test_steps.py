"""Forms are read in small steps, so that other clients are served in the meantime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trioflow.http.forms.form as form_module
from tests.http.forms.test_forms import END, all_of, part, posted
from trioflow.http.forms.multipart import Multipart


class Step(trio.abc.Instrument):
    """Counts the work within one step of a task."""

    def __init__(self) -> None:
        self.done = self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.done = 0

    def count(self, done: int = 1) -> None:
        self.done += done
        self.most = max(self.most, self.done)


@pytest.fixture
async def step() -> AsyncGenerator[Step, None]:
    step = Step()
    trio.lowlevel.add_instrument(step)
    yield step
    trio.lowlevel.remove_instrument(step)


async def test_a_form_of_many_small_parts_is_read_in_small_steps(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Multipart.feed

    def counted(self: Multipart, chunk: bytes) -> Iterator[Any]:
        for event in feed(self, chunk):
            step.count()
            yield event

    monkeypatch.setattr(Multipart, "feed", counted)
    found = await posted(all_of, part('name="a"') * 900 + END)

    assert found == [("a", None, b"")] * 900
    assert step.most <= 32


@pytest.mark.parametrize(("names", "value"), [(1, "%41" * 300_000), (900, "%41" * 300), (900, "")])
async def test_a_urlencoded_form_is_decoded_in_small_steps(
    names: int, value: str, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    unquote = form_module.unquote_to_bytes

    def counted(data: bytes) -> bytes:
        step.count(len(data) + 60)
        return unquote(data)

    monkeypatch.setattr(form_module, "unquote_to_bytes", counted)
    found = await posted(all_of, "&".join([f"a%20b={value}"] * names).encode(), "application/x-www-form-urlencoded")

    assert found == [("a b", None, b"A" * (len(value) // 3))] * names
    assert step.most < 9000


@given(st.text(alphabet="ab+%4 é&=", max_size=40), st.integers(3, 9))
def test_a_percent_escape_is_never_split(text: str, piece: int) -> None:
    data = quote_plus(text, safe="%").encode()
    pairs = form_module._Pairs(None, 1, 1, "utf_8")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form_module, "_PIECE", piece)
        found = trio.run(pairs._unquoted, data)

    assert found == unquote_to_bytes(data.replace(b"+", b" "))
