"""Reading only what the page cache holds of a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from trioflow.io import page_cache


def test_the_page_cache_gives_only_the_bytes_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "content"
    content.write_bytes(os.urandom(5_000_000))
    with content.open("rb") as file:
        fd = file.fileno()
        file.read()
        if not page_cache.is_cached(fd, 0, 5_000_000):
            pytest.skip("this file system cannot say")

        assert page_cache.read_cached(fd, 10, 20) == content.read_bytes()[10:20]
        assert page_cache.read_cached(fd, 10, 10) == b""
        assert page_cache.read_cached(fd, 4_999_999, 5_000_001) is None
        assert not page_cache.is_cached(fd, 4_999_999, 5_000_001)

        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

        assert not page_cache.is_cached(fd, 0, 5_000_000)
        assert page_cache.read_cached(fd, 0, 5_000_000) is None

        monkeypatch.setattr(page_cache, "NOWAIT", 0)

        assert not page_cache.is_cached(fd, 0, 10)
        assert page_cache.read_cached(fd, 0, 10) is None


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="needs a file system in memory")
def test_a_file_system_that_cannot_say_is_not_a_failure() -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(100))
        file.flush()

        assert page_cache.is_cached(file.fileno(), 0, 100) in (True, False)  # newer kernels support it
        assert page_cache.read_cached(file.fileno(), 0, 100) in (bytes(100), None)


def test_a_pipe_is_not_cached() -> None:
    reading, writing = os.pipe()
    try:
        assert not page_cache.is_cached(reading, 0, 10)
        assert page_cache.read_cached(reading, 0, 10) is None
    finally:
        os.close(reading)
        os.close(writing)
