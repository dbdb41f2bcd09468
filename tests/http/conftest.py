from __future__ import annotations

import pytest

from trioflow.http.file_server import conditions


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each file for one that will not change within the same tick again, as if the test had waited for it."""
    monkeypatch.setattr(conditions, "TICK", -1)
    monkeypatch.setattr(conditions, "COARSE", -1)
