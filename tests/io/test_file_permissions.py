"""Files that may not be read or written, as an ordinary user meets them; also where the tests are run by root."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import trioflow as tf

NOBODY = 65534


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Return a directory that an ordinary user reaches: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be an ordinary user for a while: root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_forbidden_file_is_named(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"old")
    os.chmod(file, 0)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.read_file(file).pipe(tf.join())


async def test_a_forbidden_target_is_named_and_kept(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"old")
    os.chmod(file, 0o400)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.from_iterable([b"new"]).pipe(tf.write_file(file))

    assert os.listdir(open_to_all) == ["file"]
    assert file.read_bytes() == b"old"


async def test_a_forbidden_directory_is_named(open_to_all: Path) -> None:
    os.chmod(open_to_all, 0o555)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.from_iterable([b"new"]).pipe(tf.write_file(open_to_all / "file"))

    assert os.listdir(open_to_all) == []
