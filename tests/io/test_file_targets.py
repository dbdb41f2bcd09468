"""Where a file is written: to an open descriptor, in place of another, or in place; and what is refused first."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import trioflow as tf
from tests import called
from tests.io.test_file_permissions import as_nobody
from trioflow.io import file_target

LINUX = sys.platform.startswith("linux")
WRITE = """
import sys, trio, trioflow as tf
trio.run(tf.pipeline, [b"ours\\n"], tf.write_file(sys.argv[1], append="append" in sys.argv))
"""


def content_of(path: Path) -> bytes:
    return path.read_bytes()


async def write(path: Path | str, **options: Any) -> None:
    await tf.pipeline([b"new"], tf.write_file(path, **options))


@tf.readable
async def silent(output: tf.SendChannel[bytes]) -> None:
    await trio.sleep_forever()


# Targets that are already open


@pytest.mark.skipif(not LINUX, reason="only Linux resolves /dev/stdout this way")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "redirect", "append"),
    [
        ("/dev/stdout", ">", False),
        ("/dev/stdout", ">>", False),
        ("/dev/stdout", ">", True),
        ("/dev/fd/1", ">", False),
        ("/proc/self/fd/1", ">>", True),
        ("/proc/thread-self/fd/1", ">", False),
        ("link", ">", False),
    ],
)
def test_a_file_that_the_shell_redirects_to_is_written_at_its_current_position(
    name: str, redirect: str, append: bool, tmp_path: Path
) -> None:
    (tmp_path / "middle").symlink_to("/dev/stdout")
    (tmp_path / "link").symlink_to("middle")
    ours = f"{shlex.quote(sys.executable)} -c {shlex.quote(WRITE)} {name} {'append' if append else ''}"
    subprocess.run(["sh", "-c", f"{{ echo before; {ours}; echo after; }} {redirect} out"], check=True, cwd=tmp_path)

    assert content_of(tmp_path / "out") == b"before\nours\nafter\n"
    assert sorted(os.listdir(tmp_path)) == ["link", "middle", "out"]


@pytest.mark.skipif(not LINUX, reason="only Linux has /proc")
@pytest.mark.parametrize("options", [{}, {"atomic": False}, {"append": True}])
async def test_writing_to_an_open_file_of_another_process_keeps_its_content(
    options: dict[str, bool], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = called.children()
    async with tf.process(["sh", "-c", f"exec >{shlex.quote(str(out))}; echo before; read l; echo $l"]).open() as shell:
        [pid] = set(called.children()).difference(before)
        with trio.fail_after(60):
            while not out.exists() or content_of(out) != b"before\n":
                await trio.lowlevel.checkpoint()
        await write(f"/proc/{pid}/fd/1", **options)
        await shell.send_all(b"after\n")
        assert await shell.receive_some() == b""

    assert content_of(out)[:7] == b"before\n"
    assert sorted(os.listdir(tmp_path)) == ["out"]


@pytest.mark.skipif(not LINUX, reason="only Linux resolves /dev/fd this way")
async def test_a_descriptor_open_only_for_reading_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="it is open for reading only"):
            await write(f"/dev/fd/{fd}")
    finally:
        os.close(fd)

    assert content_of(tmp_path / "file") == b"old"


@pytest.mark.skipif(not LINUX, reason="only Linux has /proc")
async def test_a_name_that_only_looks_like_a_descriptor_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "1").write_bytes(b"old")
    (tmp_path / "1").symlink_to("fd/1")
    before = os.stat(tmp_path / "1").st_ino

    await write(tmp_path / "1")

    assert content_of(tmp_path / "fd" / "1") == b"new"
    assert os.stat(tmp_path / "1").st_ino != before


# Files that cannot be replaced


@contextmanager
def mounted(source: Path, target: Path) -> Iterator[None]:
    """Mount a file over another; skip the test if that is not allowed."""
    if shutil.which("mount") is None or subprocess.run(["mount", "--bind", source, target], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("is_seen", [True, False])
async def test_the_error_for_an_atomic_write_onto_a_mounted_file_says_what_to_do(
    is_seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    for name in ("file", "other"):
        (tmp_path / name).write_bytes(b"old")
    if not is_seen:
        monkeypatch.setattr(file_target, "is_mount", lambda directory, name: False)

    with mounted(tmp_path / "other", path):
        source = silent() if is_seen else tf.from_iterable([b"new"])
        with trio.fail_after(60), pytest.raises(OSError, match="it is a mount") as caught:
            await source.pipe(tf.write_file(path))
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename == str(path)
        assert "atomic=False writes in place" in str(caught.value)
        assert sorted(os.listdir(tmp_path)) == ["file", "other"]

        await write(path, atomic=False)

    assert (content_of(path), content_of(tmp_path / "other")) == (b"old", b"new")


async def test_the_error_for_a_writable_file_in_a_read_only_directory_says_what_to_do() -> None:
    # Not in TMPDIR, because the user nobody may not be able to enter it.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "file")
        os.close(os.open(path, os.O_CREAT))
        os.chmod(path, 0o666)
        os.chmod(directory, 0o755)
        if os.geteuid():
            os.chmod(directory, 0o555)
        with as_nobody():
            with pytest.raises(
                PermissionError, match="its directory takes no new file, so it cannot be replaced"
            ) as caught:
                await write(path)
            assert (caught.value.filename, content_of(path)) == (str(path), b"")
            assert "atomic=False writes in place" in str(caught.value)
            await write(path, atomic=False)
        os.chmod(directory, 0o755)

        assert content_of(path) == b"new"


# Files that are read while they are written


SAME: list[Callable[[Path], Path | str]] = [
    lambda path: path,
    lambda path: os.path.relpath(path),
    lambda path: path.with_name("symbolic"),
    lambda path: path.with_name("hard"),
    lambda path: f"/dev/fd/{os.open(path, os.O_WRONLY)}",
]


@pytest.mark.parametrize("spelling", range(len(SAME) if LINUX else 4))
@pytest.mark.parametrize("options", [{"atomic": False}, {"append": True}])
@pytest.mark.parametrize("between", [[], [tf.gzip()], [tf.map(bytes.upper), tf.recover(lambda exc: [])]])
async def test_a_file_is_not_written_in_place_while_it_is_read(
    spelling: int, options: dict[str, bool], between: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100_000)
    (tmp_path / "symbolic").symlink_to("file")
    os.link(path, tmp_path / "hard")
    other = str(SAME[spelling](path))
    try:
        for source in (tf.read_file(path), tf.read_file(path, follow=True)):
            with trio.fail_after(60), pytest.raises(OSError, match="cannot be written in place while it is read"):
                await tf.pipeline(source, *between, tf.write_file(other, **options))
    finally:
        if other.startswith("/dev/fd/"):
            os.close(int(other[8:]))

    assert content_of(path) == b"a" * 100_000


async def test_a_file_can_be_replaced_by_its_own_transformed_content_and_another_written_in_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    await tf.pipeline(tf.read_file(path), tf.map(bytes.upper), tf.write_file(path))
    assert content_of(path) == b"ABC"
    for between in ([], [tf.map(bytes.lower)]):
        await tf.pipeline(tf.read_file(path), *between, tf.write_file(tmp_path / "other", atomic=False))
    assert content_of(tmp_path / "other") == b"abc"


async def test_writing_in_place_a_missing_source_is_reported_as_the_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    chain = tf.read_file(tmp_path / "missing").pipe(tf.map(bytes.upper))

    with pytest.raises(FileNotFoundError, match="missing") as caught:
        await chain.pipe(tf.write_file(tmp_path / "file", atomic=False))

    assert caught.value.__notes__[0].startswith("in stage 1 of 3: read_file(")


# What a write preserves


def holes_of(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of data in a file, as the file system reports them."""
    found: list[tuple[int, int]] = []
    size = os.stat(path).st_size
    with path.open("rb") as file:
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            found.append((at, end))
            at = end
    return found


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system has no copy_file_range")
@pytest.mark.parametrize("can_copy", [True, False])
@pytest.mark.parametrize("options", [{}, {"atomic": False}])
@pytest.mark.parametrize("data", [[], [0], [1 << 22], [0, 1 << 30], [1 << 22, (1 << 30) - 4096]])
async def test_a_copy_of_a_sparse_file_is_sparse(
    data: list[int], options: dict[str, bool], can_copy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_copy:
        monkeypatch.delattr(os, "copy_file_range")
    path, copy = tmp_path / "sparse", tmp_path / "copy"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        for at in data:
            os.pwrite(file.fileno(), b"x" * 4096, at)
    size = os.stat(path).st_size
    if len(holes_of(path)) != len(data):
        pytest.skip("this file system has no holes")

    assert await tf.read_file(path).pipe(tf.write_file(copy, **options)) == size
    assert holes_of(copy) == holes_of(path)
    assert os.stat(copy).st_size == size
    for at in data:
        assert await tf.read_file(copy, start=at, stop=at + 4096).pipe(tf.join()) == b"x" * 4096

    assert await tf.read_file(path, start=4096, stop=10_000).pipe(tf.write_file(copy, **options)) == 10_000 - 4096
    assert content_of(copy) == bytes(10_000 - 4096)


async def test_a_hole_in_appended_data_is_written_as_zeros(tmp_path: Path) -> None:
    path, copy = tmp_path / "sparse", tmp_path / "copy"
    path.touch()
    os.truncate(path, 1 << 20)
    copy.write_bytes(b"old")

    assert await tf.read_file(path).pipe(tf.write_file(copy, append=True)) == 1 << 20
    assert content_of(copy) == b"old" + bytes(1 << 20)


async def test_on_a_file_system_without_holes_everything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 20)
    real = os.lseek

    def lseek(fd: int, at: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "what is that")
        return real(fd, at, how)

    monkeypatch.setattr(os, "lseek", lseek)

    assert await tf.read_file(path).pipe(tf.write_file(tmp_path / "copy")) == 1 << 20
    assert content_of(tmp_path / "copy") == bytes(1 << 20)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="only Linux has extended attributes")
async def test_extended_attributes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.two", b"2")
    except OSError:
        pytest.skip("this file system has no extended attributes")

    await write(path)
    assert (content_of(path), os.getxattr(path, "user.one"), os.getxattr(path, "user.two")) == (b"new", b"1", b"2")

    def refused(*args: Any) -> None:
        raise OSError(errno.EPERM, "not allowed")

    monkeypatch.setattr(os, "setxattr", refused)
    await write(path)
    assert (content_of(path), os.listxattr(path)) == (b"new", [])

    def unknown(*args: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "what is that")

    monkeypatch.setattr(os, "listxattr", unknown)
    await write(path)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="only Linux has extended attributes")
async def test_a_disk_that_fails_to_read_attributes_is_a_failure_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def broken(*args: Any) -> Any:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "listxattr", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        await write(path)

    assert (content_of(path), os.listdir(tmp_path)) == (b"old", ["file"])


async def test_a_hard_link_to_a_replaced_file_keeps_the_old_content(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"old")
    os.link(path, other)

    await tf.from_iterable(b"new").pipe(tf.write_file(path))
    assert (content_of(path), content_of(other)) == (b"new", b"old")
    await tf.from_iterable(b"newer").pipe(tf.write_file(other, atomic=False))
    os.link(other, tmp_path / "third")
    await tf.from_iterable(b"newest").pipe(tf.write_file(other, atomic=False))
    assert content_of(tmp_path / "third") == b"newest"
