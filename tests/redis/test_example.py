from __future__ import annotations

import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import trio

from tests.redis.server import PATIENCE, Server, until
from trioflow import redis

pytestmark = pytest.mark.needs("redis-server")

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "word_count"
FILES = 150


class Terminals:
    """Programs of the example, started by hand and killed at will."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._all: list[subprocess.Popen[str]] = []

    def start(self, program: str, *args: str | Path) -> subprocess.Popen[str]:
        return self.run(EXAMPLE, program, *args, self._url)

    def run(self, place: Path, *words: str | Path) -> subprocess.Popen[str]:
        self._all.append(subprocess.Popen([sys.executable, *words], cwd=place, stdout=subprocess.PIPE, text=True))
        return self._all[-1]

    def __enter__(self) -> Terminals:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._all:
            process.kill()
            with process:  # waits, and closes the pipe
                pass


async def printed(process: subprocess.Popen[str]) -> str:
    output, _ = await trio.to_thread.run_sync(process.communicate, abandon_on_cancel=True)
    assert process.returncode == 0
    return output


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        try:
            [(count,)] = connection.execute("SELECT count(*) FROM counts")
        except sqlite3.OperationalError:  # no table has been printed yet
            return 0
    return int(count)


async def test_words_are_counted_correctly_whichever_process_is_killed(server: Server, tmp_path: Path) -> None:
    source = random.Random(7)
    texts = tmp_path / "texts"
    texts.mkdir()
    expected: Counter[str] = Counter()
    for n in range(FILES):
        words = source.choices(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], k=3000)
        (texts / f"{n}.txt").write_text(" ".join(words))
        expected.update(words)
    database = tmp_path / "words.db"

    async def is_full() -> bool:
        return (await redis.status(server.url, "files")).entries == 20

    async def has_rows(least: int) -> bool:
        return rows(database) >= least

    with trio.fail_after(PATIENCE), Terminals(server.url) as terminals:
        find = terminals.start("find.py", texts)
        await until(is_full)
        find.kill()  # it waited for room
        find = terminals.start("find.py", texts)
        merge = terminals.start("merge.py", database)
        count = terminals.start("count.py")
        await until(lambda: has_rows(20))
        count.kill()
        counters = [terminals.start("count.py"), terminals.start("count.py")]
        await until(lambda: has_rows(60))
        merge.kill()
        merge = terminals.start("merge.py", database)

        assert await printed(find) == f"{FILES} files sent\n"
        counted = [await printed(counter) for counter in counters]
        told = await printed(merge)

    best = sorted(expected.items(), key=lambda item: (-item[1], item[0]))[:5]
    assert told.splitlines() == [
        f"{expected.total()} words in {FILES} files",
        *(f"{count:8} {word}" for word, count in best),
    ]
    assert all(line.endswith(" files counted here\n") for line in counted)


async def test_every_file_gets_its_digest_even_if_a_worker_is_stopped(server: Server, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for n in range(FILES):
        (files / f"{n}.bin").write_bytes(bytes([n]) * 1_000_000)
    place = EXAMPLES / "work_queue"
    words = ["-m", "trioflow", "work", "tasks:write_digest", "--url", server.url, "--stream", "files", "--group", "g"]

    async def has_begun() -> bool:
        return any(files.glob("*.sha256"))

    with trio.fail_after(PATIENCE), Terminals(server.url) as terminals:
        stopped = terminals.run(place, *words)
        send = terminals.run(place, "send.py", files, server.url)
        await until(has_begun)
        stopped.send_signal(signal.SIGTERM)
        assert await printed(stopped) == ""
        other = terminals.run(place, *words)
        assert await printed(send) == f"{FILES} files sent\n"
        assert await printed(other) == ""

    found = {path.name: path.read_text() for path in files.glob("*.sha256")}
    assert found == {
        f"{n}.bin.sha256": f"{hashlib.sha256(bytes([n]) * 1_000_000).hexdigest()}  {n}.bin\n" for n in range(FILES)
    }
    assert len(list(files.iterdir())) == 2 * FILES
