"""Files that an ordinary user may not read or write; these tests also work if they are run by root."""

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
    """Return a directory that an ordinary user can enter, because pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Become an ordinary user for a while, because root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_the_error_for_a_forbidden_file_names_it(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"old")
    os.chmod(file, 0)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.read_file(file).pipe(tf.join())


async def test_the_error_for_a_forbidden_target_names_it_and_its_content_is_kept(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"old")
    os.chmod(file, 0o400)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.from_iterable([b"new"]).pipe(tf.write_file(file))

    assert os.listdir(open_to_all) == ["file"]
    assert file.read_bytes() == b"old"


async def test_the_error_for_a_forbidden_directory_names_it(open_to_all: Path) -> None:
    os.chmod(open_to_all, 0o555)

    with as_nobody(), pytest.raises(PermissionError, match="file"):
        await tf.from_iterable([b"new"]).pipe(tf.write_file(open_to_all / "file"))

    assert os.listdir(open_to_all) == []
