from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.redis.server import Server
from trioflow.redis.client import Client
from trioflow.redis.scripts import Script


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Counter[Script]:
    """Count the answers to each script, for tests that wait until a receiver has sent a query."""
    counts: Counter[Script] = Counter()
    run = Client.run

    async def run_and_count(self: Client, script: Script, *args: Any, **options: Any) -> Any:
        answer = await run(self, script, *args, **options)
        counts[script] += 1
        return answer

    monkeypatch.setattr(Client, "run", run_and_count)
    return counts
