"""Following a file that grows, shrinks, is replaced or is missing for a while."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioflow as tf
from tests.conftest import open_descriptors
from trioflow.io import file_follower


class Followed:
    """What has been read from a file so far."""

    def __init__(self) -> None:
        self.got = b""
        self.news = trio.Event()

    async def run(self, source: tf.ReceiveChannel[bytes]) -> None:
        async for chunk in source:
            self.got += chunk
            self.news.set()

    async def comes(self, expected: bytes) -> None:
        """Wait until exactly this has been read; a thread reads the file, so real time passes."""
        with trio.fail_after(60):
            while len(self.got) < len(expected):
                self.news = trio.Event()
                await self.news.wait()
        assert self.got == expected
        self.got = b""


@asynccontextmanager
async def following(path: Path, **options: Any) -> AsyncIterator[Followed]:
    followed = Followed()
    async with trio.open_nursery() as nursery:
        readable = tf.read_file(path, follow=True, interval=0.002, **options)
        nursery.start_soon(lambda: readable.pipe(tf.Writable(followed.run)))
        yield followed
        nursery.cancel_scope.cancel()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rotate(path: Path) -> Path:
    return path.rename(path.with_name("log.1"))


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    return path


async def test_the_content_of_a_file_and_what_is_appended_are_emitted(log: Path) -> None:
    async with following(log) as followed:
        await followed.comes(b"one\n")
        for data in (b"two\n", b"3", b"x" * 300_000):
            append(log, data)
            await followed.comes(data)


async def test_it_starts_at_the_given_position_and_respects_its_chunk_size(log: Path) -> None:
    async with tf.read_file(log, start=2, follow=True, chunk_size=1, interval=0.001).open() as chunks:
        with trio.fail_after(60):
            assert [await chunks.receive() for _ in range(2)] == [b"e", b"\n"]
            append(log, b"ab")
            assert [await chunks.receive() for _ in range(2)] == [b"a", b"b"]


async def test_a_file_that_became_shorter_is_read_from_its_start(log: Path) -> None:
    async with following(log) as followed:
        await followed.comes(b"one\n")
        write(log, b"2\n")
        await followed.comes(b"2\n")
        append(log, b"3\n")
        await followed.comes(b"3\n")


async def test_a_file_that_was_replaced_is_read_to_its_end_and_then_the_new_one(log: Path) -> None:
    async with following(log) as followed:
        await followed.comes(b"one\n")
        for turn in (b"first", b"second"):
            old = rotate(log)
            append(old, b"last words, ")
            write(log, turn)
            await followed.comes(b"last words, " + turn)
            remove(old)


async def test_data_appended_to_a_replaced_file_is_emitted_too(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = log.with_name("log.1")
    find = file_follower.Follower._find

    def find_and_write(self: file_follower.Follower) -> tuple[int, bool]:
        found = find(self)
        if found[1]:
            append(old, b"late, ")
        return found

    monkeypatch.setattr(file_follower.Follower, "_find", find_and_write)
    async with following(log) as followed:
        await followed.comes(b"one\n")
        rotate(log)
        write(log, b"new")
        await followed.comes(b"late, new")


async def test_data_appended_to_a_replaced_file_one_interval_later_is_emitted_too(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = log.with_name("log.1")
    look, sleep = file_follower.Follower._look, trio.sleep
    replaced = []

    async def look_and_tell(self: file_follower.Follower) -> None:
        await look(self)
        if self._is_replaced:
            replaced.append(old)

    async def sleep_and_write(seconds: float) -> None:
        await sleep(seconds)
        if replaced:
            append(replaced.pop(), b"later, ")

    monkeypatch.setattr(file_follower.Follower, "_look", look_and_tell)
    monkeypatch.setattr(trio, "sleep", sleep_and_write)
    async with following(log) as followed:
        await followed.comes(b"one\n")
        rotate(log)
        write(log, b"new")
        await followed.comes(b"later, new")


async def test_it_waits_for_a_file_that_was_removed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = trio.Event()
    look = file_follower.Follower._look

    async def look_and_tell(self: file_follower.Follower) -> None:
        gone = not await trio.Path(log).exists()
        await look(self)
        if gone:
            looked.set()

    monkeypatch.setattr(file_follower.Follower, "_look", look_and_tell)
    async with following(log) as followed:
        await followed.comes(b"one\n")
        remove(log)
        await looked.wait()
        write(log, b"again")
        await followed.comes(b"again")


PASSING = [
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ESTALE, errno.EMFILE,
    errno.ENFILE,
]  # fmt: skip


@pytest.mark.parametrize("code", PASSING, ids=errno.errorcode.get)
async def test_it_waits_for_a_file_that_cannot_be_opened_for_a_moment(
    log: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    open_for_reading = file_follower.open_for_reading
    calls = 0

    def opens_late(path: str) -> tuple[int, os.stat_result]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(code, os.strerror(code))
        return open_for_reading(path)

    monkeypatch.setattr(file_follower, "open_for_reading", opens_late)
    async with following(log) as followed:
        await followed.comes(b"one\n")
        rotate(log)
        write(log, b"new")
        await followed.comes(b"new")
    assert calls == 3


@pytest.mark.parametrize("code", PASSING, ids=errno.errorcode.get)
async def test_it_waits_for_a_path_whose_status_cannot_be_read_for_a_moment(
    log: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    stat, failed = os.stat, trio.Event()

    def fails_once(path: Any, **options: Any) -> os.stat_result:
        if path == str(log) and not failed.is_set():
            trio.from_thread.run_sync(failed.set)
            raise OSError(code, os.strerror(code))
        return stat(path, **options)

    async with following(log) as followed:
        await followed.comes(b"one\n")
        monkeypatch.setattr(os, "stat", fails_once)
        await failed.wait()
        append(log, b"two\n")
        await followed.comes(b"two\n")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Wait until it has checked the file again, whatever it found."""
    sleep, slept = trio.sleep, 0

    async def counted(seconds: float) -> None:
        nonlocal slept
        slept += 1
        await sleep(seconds)

    async def looks() -> None:
        before = slept
        while slept < before + 3:
            await sleep(0)

    monkeypatch.setattr(file_follower.trio, "sleep", counted)
    return looks


async def test_it_waits_while_a_directory_has_its_name_or_its_own_directory_is_missing(
    tmp_path: Path, looks: Callable[[], Awaitable[None]]
) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    log = place / "log"
    write(log, b"one\n")
    async with following(log) as followed:
        await followed.comes(b"one\n")
        log.unlink()
        log.mkdir()
        await looks()
        log.rmdir()
        place.rmdir()
        write(place, b"a file where the directory was")
        await looks()
        place.unlink()
        place.mkdir()
        write(log, b"two\n")
        await followed.comes(b"two\n")


async def test_a_file_that_is_moved_away_and_back_is_not_read_twice(
    log: Path, looks: Callable[[], Awaitable[None]]
) -> None:
    def come_back(old: Path) -> None:
        log.rmdir()
        old.rename(log)

    async with following(log) as followed:
        await followed.comes(b"one\n")
        old = rotate(log)
        os.mkdir(log)
        await looks()
        come_back(old)
        await looks()
        append(log, b"two\n")
        await followed.comes(b"two\n")


async def test_a_file_moved_back_while_its_replacement_is_opened_is_not_read_twice(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_for_reading, old = file_follower.open_for_reading, log.with_name("log.1")
    moved = trio.Event()

    def late(path: str) -> tuple[int, os.stat_result]:
        if old.exists():
            remove(log)
            old.rename(log)
            trio.from_thread.run_sync(moved.set)
        return open_for_reading(path)

    monkeypatch.setattr(file_follower, "open_for_reading", late)
    async with following(log) as followed:
        await followed.comes(b"one\n")
        rotate(log)
        write(log, b"new")
        await moved.wait()
        append(log, b"two\n")
        await followed.comes(b"two\n")
        assert open_descriptors_of(log) == 1


def open_descriptors_of(path: Path) -> int:
    return list(open_descriptors().values()).count(str(path))


async def test_a_permanent_error_is_raised(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Any) -> os.stat_result:
        raise OSError(errno.EIO, "the disk is broken")

    with pytest.raises(OSError, match="the disk is broken") as caught:
        await tf.read_file(log, follow=True, interval=0.001).pipe(
            tf.for_each(lambda chunk: monkeypatch.setattr(file_follower.os, "stat", broken))
        )
    assert caught.value.__notes__[0].startswith("in stage 1 of 2: read_file(")


async def test_a_missing_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await tf.read_file(tmp_path / "none", follow=True).pipe(tf.drain())


async def test_on_request_it_waits_for_a_file_that_is_missing_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = file_follower.open_for_reading

    def counted(path: str) -> tuple[int, os.stat_result]:
        nonlocal looks
        looks += 1
        return real(path)

    async def several_looks() -> None:
        before = looks
        with trio.fail_after(60):
            while looks < before + 3:
                await trio.lowlevel.checkpoint()

    monkeypatch.setattr(file_follower, "open_for_reading", counted)
    log = tmp_path / "made later" / "log"
    async with following(log, missing="wait", start=4) as followed:
        await several_looks()  # without its directory
        log.parent.mkdir()
        await several_looks()
        log.mkdir()
        await several_looks()  # while the path itself is a directory
        log.rmdir()
        write(log, b"one\ntwo\n")
        await followed.comes(b"two\n")
        append(log, b"three\n")
        await followed.comes(b"three\n")


async def test_waiting_for_a_missing_file_raises_a_permanent_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str) -> tuple[int, os.stat_result]:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(file_follower, "open_for_reading", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        await tf.read_file(tmp_path / "log", follow=True, missing="wait").pipe(tf.drain())


async def test_R16_waiting_for_a_missing_file_can_be_cancelled(tmp_path: Path, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.read_file(tmp_path / "log", follow=True, missing="wait").pipe, tf.drain())
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()


async def test_following_a_pipe_ends_with_its_last_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline([b"abc"], tf.write_file(path)))
        with trio.fail_after(60):
            assert await tf.read_file(path, follow=True).pipe(tf.join()) == b"abc"


async def test_it_checks_the_file_at_each_interval_of_trios_clock(log: Path, mock_clock: MockClock) -> None:
    looks = []
    async with tf.read_file(log, follow=True, interval=10).open() as chunks:
        assert await chunks.receive() == b"one\n"
        await wait_all_tasks_blocked(0.05)  # wait until it has reached the end of the file, even if a thread reads it
        append(log, b"two\n")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            chunks.receive_nowait()
        mock_clock.jump(10)
        looks.append(await chunks.receive())
    assert looks == [b"two\n"]


async def test_R9_a_reader_that_stops_early_ends_the_follower(log: Path) -> None:
    with trio.fail_after(60):
        assert await tf.read_file(log, follow=True, interval=1000).pipe(tf.lines()).pipe(tf.first()) == "one"


async def test_a_followed_file_is_copied_as_it_grows_and_not_as_a_whole(log: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    append(copied, b"")
    async with following(copied) as followed, trio.open_nursery() as nursery:
        copying = tf.read_file(log, follow=True, interval=0.001).pipe(tf.write_file(copied, atomic=False))
        nursery.start_soon(lambda: copying)
        await followed.comes(b"one\n")
        append(log, b"two\n")
        await followed.comes(b"two\n")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"follow": 1}, TypeError, "follow must be a bool, got 1"),
        ({"follow": True, "stop": 5}, ValueError, "follow=True reads without an end; leave out stop, got 5"),
        ({"follow": True, "missing": "create"}, ValueError, 'missing must be "fail" or "wait", got \'create\''),
        ({"missing": "wait"}, ValueError, "needs follow=True"),
        ({"follow": True, "interval": 0}, ValueError, "interval must be above 0, got 0"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tf.read_file("x", **options)


def test_the_repr_of_a_follower_is_the_call_that_made_it() -> None:
    assert repr(tf.read_file("x", follow=True)) == "<Readable read_file('x', follow=True)>"
