"""Files read, written and copied: real ones, empty, odd, missing, full, and cut off in the middle."""

from __future__ import annotations

import errno
import math
import os
import re
import resource
import signal
import stat
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_one_way_pair, wait_all_tasks_blocked

import trioflow as tf
from tests.conftest import open_descriptors
from tests.consumers import CONSUMERS, Boom, Consumer, Sink, Source, Turns, passes, wait_until_cancelled
from trioflow._core.engine import Stage
from trioflow._core.shortcuts import Offer, OpenRegion
from trioflow._core.streams import Readable, Writable, label
from trioflow.io import file_reader, file_target, file_writer

MANY = 3_000_000  # bytes: more than a channel holds
ROOT = os.geteuid() == 0

UNCHUNKED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"".join(n.to_bytes(4, "big") for n in range(MANY // 4))


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def bytes_in(path: Path) -> bytes:
    return path.read_bytes()


def status_of(path: Path) -> os.stat_result:
    return path.stat()


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd") if Path("/proc/self/fd").is_dir() else []


async def read(path: Path | str | bytes, **options: Any) -> bytes:
    return await tf.read_file(path, **options).pipe(tf.join())


def note_of(exc: BaseException) -> str:
    (note,) = exc.__notes__
    return str(note)


def unchanged() -> tf.Transform[Any, Any]:
    """Make a transform that prevents a copy as a whole, so that chunks are sent."""
    return tf.map(lambda chunk: chunk)


def open_on(path: Path) -> int:
    """Return how many descriptors are open on `path`."""
    return list(open_descriptors().values()).count(str(path)) if descriptors() else 0


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that a thread does."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


# Reading


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_R2_a_file_is_closed_however_it_is_read(consume: Consumer, file: Path, content: bytes) -> None:
    before = descriptors()

    got = b"".join(await consume(tf.read_file(file)))

    assert got
    assert content.startswith(got)
    assert descriptors() == before


async def test_R4_a_file_can_be_read_again_and_twice_at_the_same_time(file: Path, content: bytes) -> None:
    readable = tf.read_file(file)

    async with readable.open() as one, readable.open() as other:
        assert await one.receive() == await other.receive()
    assert await readable.pipe(tf.join()) == content
    assert await readable.pipe(tf.join()) == content


async def test_R1_a_file_is_not_touched_before_await(tmp_path: Path) -> None:
    path = tmp_path / "file"

    readable, writable = tf.read_file(path), tf.write_file(path)
    readable.pipe(writable).close()

    assert not path.exists()
    path.write_bytes(b"now")
    assert await readable.pipe(tf.join()) == b"now"


async def test_an_empty_file_yields_no_chunk(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()

    assert await tf.read_file(path).pipe(tf.collect()) == []


@UNCHUNKED
@given(
    size=st.sampled_from([0, 1, 4095, 4096, 131_072, 131_073, 700_000]),
    start=st.integers(0, 710_000),
    length=st.none() | st.integers(0, 710_000),
    chunk_size=st.none() | st.sampled_from([7, 4096, 131_072, 1 << 20, 1 << 21]),
)
def test_any_range_of_a_file_in_any_chunk_size_equals_a_slice(
    size: int, start: int, length: int | None, chunk_size: int | None, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    stop = None if length is None else start + length

    chunks = trio.run(tf.read_file(path, start=start, stop=stop, chunk_size=chunk_size).pipe, tf.collect())

    assert b"".join(chunks) == content[:size][start:stop]
    assert all(0 < len(chunk) <= (chunk_size or file_reader.COLD) for chunk in chunks)
    assert all(type(chunk) is bytes for chunk in chunks)


async def test_ranges_of_a_file_far_larger_than_memory_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek((1 << 40) - 3)
        file.write(b"end")

    assert await read(path, start=(1 << 40) - 5) == b"\0\0end"
    assert await read(path, start=(1 << 39), stop=(1 << 39) + 2) == b"\0\0"
    assert await tf.read_file(path).pipe(tf.take(2)).pipe(tf.map(len)).pipe(tf.collect()) != []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
async def test_a_file_whose_reported_size_is_0_is_read_to_its_end(tmp_path: Path) -> None:
    assert os.stat("/proc/self/status").st_size == 0

    assert (await read("/proc/self/status")).startswith(b"Name:")
    assert await tf.read_file("/proc/self/status").pipe(tf.write_file(tmp_path / "copy")) > 100


@pytest.mark.skipif(not Path("/sys/kernel/mm/ksm/run").exists(), reason="only Linux has /sys")
async def test_a_file_whose_reported_size_is_too_large_is_read_to_its_end(tmp_path: Path) -> None:
    path = Path("/sys/kernel/mm/ksm/run")
    assert status_of(path).st_size == 4096

    assert await tf.read_file(path).pipe(tf.write_file(tmp_path / "copy")) == len(bytes_in(path))


async def test_a_file_can_grow_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 10)

    async with tf.read_file(path, chunk_size=10).open(capacity=1) as receive:
        got = await receive.receive()
        with path.open("ab") as file:
            file.write(b"b" * 10)
        got += b"".join([chunk async for chunk in receive])

    assert got in (b"a" * 10, b"a" * 10 + b"b" * 10)


async def test_a_file_that_cannot_be_opened_without_the_disk_is_opened_in_a_thread(
    file: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = 0
    run_sync = trio.to_thread.run_sync

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal threads
        threads += 1
        return await run_sync(*args, **kwargs)

    async def opened() -> int:
        before = threads
        assert await tf.read_file(file).pipe(tf.join()) == content
        return threads - before

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)

    await opened()
    from_memory = await opened()
    monkeypatch.setattr(file_reader, "openat2", lambda: lambda directory, path, how: -errno.EAGAIN)
    assert await opened() == from_memory + 1
    assert await tf.read_file(file).pipe(tf.write_file(tmp_path / "copy")) == len(content)
    monkeypatch.setattr(file_reader, "openat2", lambda: None)
    assert await opened() == from_memory + 1


async def test_a_path_with_a_null_byte_opens_nothing(file: Path) -> None:
    with pytest.raises(ValueError, match="null"):
        await tf.read_file(f"{file}\0.txt").pipe(tf.drain())
    with pytest.raises(ValueError, match="null"):
        await tf.read_file(f"{file}\0.txt").pipe(tf.write_file(file.with_name("copy")))


@pytest.mark.skipif(not file_reader.NOWAIT, reason="needs a page cache that can be queried")
@pytest.mark.parametrize("chunk_size", [None, 1 << 17])
async def test_a_long_file_starts_with_short_chunks_unless_chunk_size_is_given(
    chunk_size: int | None, tmp_path: Path
) -> None:
    for size, begins in (
        (file_reader.LONG, [1 << 14, 1 << 15, 1 << 16, 1 << 17]),
        (file_reader.LONG - 1, [1 << 17] * 4),
    ):
        path = tmp_path / str(size)
        path.write_bytes(bytes(size))

        sizes = tf.read_file(path, chunk_size=chunk_size).pipe(tf.map(len)).pipe(tf.take(4))
        assert await sizes.pipe(tf.collect()) == ([1 << 17] * 4 if chunk_size else begins)


async def test_the_first_blocks_of_a_file_are_read_as_they_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(file_reader.LONG))

    async with tf.read_file(path).open() as chunks:
        for taken in range(1, file_reader.EAGER):
            await chunks.receive()
            await wait_all_tasks_blocked()

            assert chunks.statistics().items == taken + 1


async def test_a_file_of_one_block_is_closed_before_its_reader_has_taken_it(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"hello")

    async with tf.read_file(path).open() as chunks:
        await wait_all_tasks_blocked()

        assert chunks.statistics().open_send_channels == 0
        assert await chunks.receive() == b"hello"


@pytest.mark.skipif(not file_reader.NOWAIT, reason="needs a page cache that can be asked")
async def test_files_that_are_read_at_the_same_time_share_one_buffer(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(file_reader.LONG))
    async with AsyncExitStack() as stack:
        tracemalloc.start()
        try:
            for _ in range(16):
                await stack.enter_async_context(tf.read_file(path).open())
            await wait_all_tasks_blocked()
            used = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert used < 16 * 3 * file_reader.FIRST + file_reader.CACHED


class Cache:
    """Stands in for the page cache: `holds` says how many bytes from an offset on it has. It counts the reads of the loop and those of threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holds: Callable[[int], int] = lambda at: MANY - at
        self.asked = self.read_by_threads = 0
        self._pread = os.pread
        self._loop = threading.get_ident()
        monkeypatch.setattr(file_reader, "NOWAIT", 8)  # some systems have no such call
        monkeypatch.setattr(os, "preadv", self._ask, raising=False)
        monkeypatch.setattr(os, "pread", self._read)

    def _ask(self, fd: int, buffers: list[memoryview], at: int, flags: int) -> int:
        assert threading.get_ident() == self._loop
        assert flags == 8
        self.asked += 1
        most = max(min(len(buffers[0]), self.holds(at)), 0)
        if most < 1 and at < MANY:
            raise BlockingIOError(errno.EAGAIN, "not in the page cache")
        data = self._pread(fd, most, at)
        buffers[0][: len(data)] = data
        return len(data)

    def _read(self, fd: int, count: int, at: int) -> bytes:
        assert threading.get_ident() != self._loop
        self.read_by_threads += 1
        return self._pread(fd, count, at)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(monkeypatch)


async def test_a_file_in_the_page_cache_is_read_without_a_thread(file: Path, content: bytes, cache: Cache) -> None:
    assert await read(file) == content

    blocks = -(-MANY // file_reader.CACHED)
    assert (cache.asked, cache.read_by_threads) == (blocks + 1, 0)  # the last finds the end


async def test_a_file_outside_the_page_cache_is_read_by_threads(file: Path, content: bytes, cache: Cache) -> None:
    cache.holds = lambda at: 0

    assert await read(file) == content

    blocks = -(-MANY // file_reader.COLD)
    assert (cache.asked, cache.read_by_threads) == (blocks + 1, blocks)


async def test_a_short_read_from_the_page_cache_is_not_the_end(file: Path, content: bytes, cache: Cache) -> None:
    cache.holds = lambda at: 5000 - at

    assert await read(file, start=5) == content[5:]

    assert cache.read_by_threads == -(-(MANY - 5000) // file_reader.COLD)


@pytest.mark.parametrize("chunk_size", [None, 1000, 1 << 22])
async def test_without_access_to_the_page_cache_threads_read(
    chunk_size: int | None, file: Path, content: bytes, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_reader, "NOWAIT", 0)

    assert await read(file, chunk_size=chunk_size) == content

    assert cache.asked == 0
    assert cache.read_by_threads > 1


async def test_a_file_system_without_nonblocking_reads_is_asked_once_and_read_by_threads(
    file: Path, content: bytes, cache: Cache
) -> None:
    def refuse(at: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "no such call here")

    cache.holds = refuse

    assert await read(file) == content

    assert cache.asked == 1
    assert cache.read_by_threads > 1


async def test_if_the_page_cache_has_no_data_before_the_reported_size_a_thread_reads(
    file: Path, content: bytes, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", lambda *_: 0)

    assert await read(file) == content

    assert cache.read_by_threads == -(-MANY // file_reader.COLD)


def break_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a function of `os` fail as it would with a broken disk."""

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, name, broken)


@pytest.mark.parametrize("asked", [True, False])
async def test_a_broken_disk_is_a_failure_of_the_source(
    asked: bool, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked and not file_reader.NOWAIT:
        pytest.skip("the page cache cannot be queried")
    monkeypatch.setattr(file_reader, "NOWAIT", file_reader.NOWAIT if asked else 0)
    for name in ("preadv", "pread"):
        break_disk(monkeypatch, name)

    with pytest.raises(OSError, match="the disk is broken") as caught:
        await read(file)

    assert note_of(caught.value).startswith("in stage 1 of 2: read_file(")


async def test_a_broken_disk_is_a_failure_while_the_size_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    break_disk(monkeypatch, "pread")

    with pytest.raises(OSError, match="the disk is broken") as caught:
        await tf.read_file(tmp_path / "empty").pipe(tf.write_file(tmp_path / "copy"))

    assert note_of(caught.value).startswith("in stage 1 of 2: read_file(")
    assert os.listdir(tmp_path) == ["empty"]


class Held:
    """Replaces a function of `os` that a thread calls: it sets `called`, and returns only after `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._real: Callable[..., Any] = getattr(os, name)
        self.called = trio.Event()
        self._released = threading.Event()
        self.fd = -1
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: Any) -> Any:
        self.fd = next(arg for arg in args if isinstance(arg, int))
        trio.from_thread.run_sync(self.called.set)
        assert self._released.wait(60)
        os.fstat(self.fd)  # raises if the file was closed in the meantime
        return self._real(*args)

    def release(self) -> None:
        self._released.set()


async def test_R16_a_file_is_closed_only_after_a_read_in_a_thread_has_finished(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_reader, "NOWAIT", 0)
    held = Held(monkeypatch, "pread")
    sink = Sink()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.read_file(file).pipe, sink.writable)
        await held.called.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await passes(10)
            os.fstat(held.fd)
            held.release()

    assert (sink.got, sink.how) == ([], "Cancelled")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held.fd)


@pytest.mark.parametrize("options", [{"append": False}, {"append": True}])
async def test_R13_a_file_is_closed_only_after_a_write_in_a_thread_has_finished(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old ")
    held = Held(monkeypatch, "writev")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.from_iterable([b"new"]).pipe, tf.write_file(path, **options))
        await held.called.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await passes(10)
            os.fstat(held.fd)
            held.release()

    assert path.read_bytes() == (b"old new" if options["append"] else b"old ")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("direct", [True, False])
async def test_the_error_for_a_missing_file_names_it_and_its_stage(direct: bool, tmp_path: Path) -> None:
    path = tmp_path / "missing"
    middle = [] if direct else [unchanged()]

    with pytest.raises(FileNotFoundError) as caught:
        await tf.pipeline(tf.read_file(path), *middle, tf.write_file(tmp_path / "copy"))

    assert caught.value.filename == str(path)
    assert note_of(caught.value).startswith(f"in stage 1 of {2 if direct else 3}: read_file(")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("direct", [True, False])
async def test_reading_a_directory_is_an_error(direct: bool, tmp_path: Path) -> None:
    middle = [] if direct else [unchanged()]

    with pytest.raises(IsADirectoryError) as caught:
        await tf.pipeline(tf.read_file(tmp_path), *middle, tf.write_file(tmp_path / "copy"))

    assert caught.value.filename == str(tmp_path)
    assert note_of(caught.value).startswith(f"in stage 1 of {2 if direct else 3}: read_file(")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [tf.read_file, tf.write_file])
@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, "expects a path, got int 3"),
        (None, TypeError, "expects a path, got NoneType None"),
        ("", ValueError, "expects a path, got an empty one"),
        (b"", ValueError, "expects a path, got an empty one"),
        ("a\0b", ValueError, "expects a path without NUL characters"),
    ],
)
def test_R1_a_path_is_checked_when_the_value_is_built(
    make: Callable[[Any], object], path: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{make.__name__} {message}"):  # type: ignore[attr-defined]
        make(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"start": -1}, ValueError, "start must be at least 0, got -1"),
        ({"start": "1"}, TypeError, "start must be an int, got '1'"),
        ({"start": None}, TypeError, "start must be an int, got None"),
        ({"stop": -1}, ValueError, "stop must be at least 0, got -1"),
        ({"stop": 1.5}, TypeError, "stop must be an int, got 1.5"),
        ({"start": 3, "stop": 2}, ValueError, "stop must be at least start, which is 3, got 2"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        ({"chunk_size": math.inf}, TypeError, "chunk_size must be an int, got inf"),
    ],
)
def test_R1_numbers_are_checked_when_the_value_is_built(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tf.read_file("file", **options)


@pytest.mark.parametrize("options", [{"append": 1}, {"atomic": "no"}, {"append": None}])
def test_R1_flags_are_checked_when_the_value_is_built(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a bool, got"):
        tf.write_file("file", **options)


def test_a_path_may_be_of_any_type_and_is_shown_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "file"

    assert trio.run(tf.from_iterable([b"a"]).pipe, tf.write_file(os.fsencode(path))) == 1
    assert trio.run(tf.read_file(str(path)).pipe, tf.join()) == b"a"
    assert repr(tf.read_file("a.log", start=3, chunk_size=9)) == "<Readable read_file('a.log', start=3, chunk_size=9)>"
    assert repr(tf.write_file("a.log", append=True)) == "<Writable write_file('a.log', append=True)>"


async def test_many_runs_leave_no_descriptor(file: Path, tmp_path: Path) -> None:
    await read(file)
    before = len(descriptors())

    for _ in range(100):
        await tf.read_file(file).pipe(tf.first())
        await tf.read_file(file, stop=9).pipe(tf.write_file(tmp_path / "copy"))
        with pytest.raises(Boom):
            await tf.pipeline(Source([b"a"], Boom()).readable, tf.write_file(tmp_path / "other"))

    assert len(descriptors()) == before


async def test_R17_a_file_in_the_page_cache_does_not_keep_other_tasks_waiting(file: Path) -> None:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.take)
        chunks = await tf.pipeline(tf.read_file(file, chunk_size=4096), tf.count(), capacity=math.inf)
        nursery.cancel_scope.cancel()

    assert chunks == -(-MANY // 4096)
    assert turns.count >= 3


# Pipes and devices


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


async def test_a_pipe_is_read_from_its_first_writer_to_its_last(pipe: Path) -> None:
    async with tf.read_file(pipe).open() as receive:
        await wait_all_tasks_blocked()
        writer = await trio.to_thread.run_sync(os.open, pipe, os.O_WRONLY)
        os.write(writer, b"one")
        assert await receive.receive() == b"one"
        await wait_all_tasks_blocked()
        os.write(writer, b"two")
        assert await receive.receive() == b"two"
        os.close(writer)
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()


@pytest.mark.skipif(not descriptors(), reason="only Linux lists open descriptors")
async def test_two_readers_of_a_pipe_share_its_data(pipe: Path) -> None:
    got: list[bytes] = []

    async def read_it() -> None:
        got.append(await read(pipe))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_it)
        nursery.start_soon(read_it)
        await until(lambda: open_on(pipe) == 2)
        await wait_all_tasks_blocked(0.01)
        writer = await trio.to_thread.run_sync(os.open, pipe, os.O_WRONLY)
        os.write(writer, b"one")
        await wait_all_tasks_blocked()
        os.close(writer)

    assert sorted(got) == [b"", b"one"]


async def test_a_pipe_can_be_read_without_nonblocking_reads(
    pipe: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_reader, "NOWAIT", 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.from_iterable([content]).pipe, tf.write_file(pipe))
        assert await read(pipe) == content


async def test_a_pipe_that_breaks_is_a_failure(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_disk(monkeypatch, "preadv")
    break_disk(monkeypatch, "read")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.from_iterable([b"a"]).pipe, tf.write_file(pipe))
        with pytest.raises(OSError, match="the disk is broken"):
            await read(pipe)


async def test_R16_reading_a_pipe_that_nobody_writes_can_be_cancelled(pipe: Path) -> None:
    for options in ({}, {"start": 5, "stop": 9}):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tf.read_file(pipe, **options).pipe, tf.collect())
                await until(lambda: open_on(pipe) or not descriptors())
                await wait_all_tasks_blocked()
                scope.cancel()

        assert scope.cancelled_caught


@pytest.mark.parametrize("direct", [True, False])
async def test_a_range_of_a_pipe_is_counted_from_its_first_byte(direct: bool, pipe: Path, tmp_path: Path) -> None:
    middle = [] if direct else [unchanged()]
    source = tf.read_file(pipe, start=70_000, stop=70_005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tf.from_iterable([b"-" * 70_000 + b"right wrong"]).pipe, tf.write_file(pipe, append=True))
        assert await tf.pipeline(source, *middle, tf.write_file(tmp_path / "copy")) == 5
        nursery.cancel_scope.cancel()

    assert (tmp_path / "copy").read_bytes() == b"right"


async def test_a_pipe_is_written_when_it_has_a_reader_and_as_it_is_read(
    pipe: Path, content: bytes, autojump_clock: MockClock
) -> None:
    got = b""

    async def read_it() -> None:
        nonlocal got
        await trio.sleep(1)
        got = await read(pipe)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_it)
        assert await tf.from_iterable([content]).pipe(tf.write_file(pipe)) == len(content)

    assert got == content
    assert stat.S_ISFIFO(status_of(pipe).st_mode)


async def test_a_file_is_copied_into_a_pipe(pipe: Path, file: Path, content: bytes) -> None:
    got = b""

    async def read_it() -> None:
        nonlocal got
        got = await read(pipe)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_it)
        assert await tf.read_file(file, stop=1_000_000).pipe(tf.write_file(pipe)) == 1_000_000

    assert got == content[:1_000_000]


async def test_R16_writing_a_pipe_that_nobody_reads_can_be_cancelled(pipe: Path, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await tf.from_iterable([b"a"]).pipe(tf.write_file(pipe))

    assert scope.cancelled_caught
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tf.from_iterable([b"a" * MANY]).pipe, tf.write_file(pipe))
                await wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    finally:
        os.close(reader)


async def test_R15_writing_a_pipe_whose_reader_has_left_is_a_failure(pipe: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    source = Source([b"a"], then=None)

    def has_come() -> bool:
        try:
            return bool(os.read(reader, 1))  # reads nothing as long as there is no writer
        except BlockingIOError:
            return False

    async def copy() -> None:
        async with source.readable.pipe(unchanged()).open() as chunks, tf.write_file(pipe).open() as send:
            await send.send(await chunks.receive())
            await until(has_come)
            os.close(reader)
            while True:
                await send.send(b"b")
                await wait_all_tasks_blocked()

    with pytest.raises(BrokenPipeError) as caught:
        await copy()

    assert source.ended == 1
    assert note_of(caught.value).startswith("in stage 1 of 1: write_file(")


async def test_devices_can_be_read_and_written(tmp_path: Path) -> None:
    assert await tf.read_file("/dev/null").pipe(tf.collect()) == []
    assert await read("/dev/zero", start=100_000, stop=300_000) == bytes(200_000)
    assert await tf.read_file("/dev/zero", stop=10_000_000).pipe(tf.write_file("/dev/null")) == 10_000_000
    assert await tf.from_iterable([b"gone"]).pipe(tf.write_file("/dev/null")) == 4

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("direct", [True, False])
async def test_a_full_disk_is_a_failure_of_the_sink(direct: bool, file: Path) -> None:
    middle = [] if direct else [unchanged()]

    with pytest.raises(OSError, match="No space left on device") as caught:
        await tf.pipeline(tf.read_file(file), *middle, tf.write_file("/dev/full"))

    assert note_of(caught.value) == f"in stage {2 if direct else 3} of {2 if direct else 3}: write_file('/dev/full')"


# Writing


@UNCHUNKED
@given(
    pieces=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 100, 4096, 65_535, 65_536, 200_000]), st.sampled_from([bytes, bytearray, memoryview])
        ),
        max_size=8,
    ),
    options=st.sampled_from([{}, {"append": True}, {"atomic": False}, {"append": True, "atomic": True}]),
    step=st.sampled_from([1000, 65_536, 1 << 22]),
    capacity=st.sampled_from([1, 256, math.inf]),
)
def test_any_chunking_makes_the_same_file(
    pieces: list[tuple[int, Callable[[bytes], Any]]],
    options: dict[str, bool],
    step: int,
    capacity: float,
    tmp_path: Path,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(file_writer, "STEP", step)
    chunks = [kind(content[:size]) for size, kind in pieces]

    async def main() -> int:
        return await tf.pipeline(chunks, tf.write_file(path, **options), capacity=capacity)

    written = trio.run(main)

    want = b"".join(chunks)
    assert written == len(want)
    assert path.read_bytes() == (b"old" if options.get("append") else b"") + want
    assert os.listdir(tmp_path) == ["file"]


async def test_an_atomic_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    async with tf.write_file(path).open() as send:
        await send.send(b"new")
        await wait_all_tasks_blocked()
        await until(lambda: len(os.listdir(tmp_path)) == 2)
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


async def written(directory: Path, size: int) -> None:
    """Wait until there is a file of `size` bytes, under any name."""
    await until(lambda: size in [os.stat(directory / name).st_size for name in os.listdir(directory)])


async def send_half(target: tf.Writable[bytes, int], directory: Path) -> None:
    async with target.open() as send:
        await send.send(b"half")
        await written(directory, 4)
        raise Boom


@asynccontextmanager
async def failing(how: str, target: tf.Writable[bytes, int], directory: Path) -> AsyncIterator[None]:
    """Run something into `target` that ends badly."""
    source = Source([b"half"] * 10, then=Boom() if how == "the source raises" else None)
    with trio.CancelScope() as scope:
        if how == "the block raises":
            with pytest.raises(Boom):
                await send_half(target, directory)
        elif how == "the source raises":
            with pytest.raises(Boom):
                await source.readable.pipe(target)
        elif how == "an item is wrong":
            with pytest.raises(TypeError):
                await tf.pipeline([b"half", "str"], target)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.readable.pipe, target)
                await written(directory, 40)
                scope.cancel()
    yield


@pytest.mark.parametrize("how", ["the source raises", "the block raises", "an item is wrong", "cancelled"])
@pytest.mark.parametrize("existing", [True, False])
async def test_R13_after_a_failure_nothing_is_left_and_nothing_is_lost(
    how: str, existing: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if existing:
        path.write_bytes(b"old")

    async with failing(how, tf.write_file(path), tmp_path):
        assert os.listdir(tmp_path) == (["file"] if existing else [])
        assert not existing or path.read_bytes() == b"old"


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Make the system refuse files longer than `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("direct", [True, False])
async def test_R13_a_full_disk_leaves_no_file(direct: bool, file: Path, tmp_path: Path) -> None:
    middle = [] if direct else [unchanged()]
    count = 3 - direct

    with no_file_over(100_000), pytest.raises(OSError, match="File too large") as caught:
        await tf.pipeline(tf.read_file(file), *middle, tf.write_file(tmp_path / "copy"))

    assert note_of(caught.value).startswith(f"in stage {count} of {count}: write_file(")
    assert os.listdir(tmp_path) == ["file"]


async def test_data_written_in_place_stays_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"something old")

    async with failing("cancelled", tf.write_file(path, atomic=False), tmp_path):
        assert path.read_bytes() == b"half" * 10


@pytest.mark.parametrize("options", [{}, {"append": True}, {"atomic": False}])
async def test_an_impossible_target_is_an_error_before_anything_is_received(
    options: dict[str, bool], tmp_path: Path
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()

    for name, error in [
        ("directory", IsADirectoryError),
        ("missing/file", FileNotFoundError),
        ("file/file", NotADirectoryError),
        ("new/", IsADirectoryError),
        ("x" * 300, OSError),
    ]:
        source = Source([b"a" * 5000] * 10)
        target = f"{tmp_path}/{name}"
        with pytest.raises(error) as caught:
            await tf.pipeline(source.readable, tf.write_file(target, **options), capacity=1)
        assert isinstance(caught.value, OSError)
        assert caught.value.filename == target
        assert source.sent <= 1
        assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


async def test_a_symbolic_link_is_kept_and_its_target_is_written(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    target, link, broken = there / "target", tmp_path / "link", tmp_path / "broken"
    target.write_bytes(b"old")
    link.symlink_to("there/target")
    broken.symlink_to("there/new")

    await tf.from_iterable([b"new"]).pipe(tf.write_file(link))
    await tf.from_iterable([b"newer"]).pipe(tf.write_file(broken))

    assert (link.is_symlink(), target.read_bytes()) == (True, b"new")
    assert (broken.is_symlink(), (there / "new").read_bytes()) == (True, b"newer")
    assert sorted(os.listdir(there)) == ["new", "target"]


async def test_a_symbolic_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")

    with pytest.raises(OSError, match="symbolic links"):
        await tf.from_iterable([b"new"]).pipe(tf.write_file(tmp_path / "link"))


async def test_an_existing_file_keeps_its_mode_and_a_new_one_gets_that_of_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o741)
    before = os.umask(0o027)
    try:
        for path in (old, new):
            await tf.from_iterable([b"a"]).pipe(tf.write_file(path))
    finally:
        os.umask(before)

    assert stat.S_IMODE(old.stat().st_mode) == 0o741
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@pytest.mark.skipif(not ROOT, reason="only root can change the owner of a file")
async def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 1234, 2345)

    await tf.from_iterable([b"a"]).pipe(tf.write_file(path))

    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


async def test_a_mode_that_cannot_be_kept_leaves_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_disk(monkeypatch, "fchmod")

    with pytest.raises(OSError, match="the disk is broken"):
        await tf.from_iterable([b"a"]).pipe(tf.write_file(file))

    assert os.listdir(file.parent) == ["file"]


async def test_a_read_only_file_is_not_replaced(file: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # as it is for an ordinary user

    with pytest.raises(PermissionError) as caught:
        await tf.from_iterable([b"a"]).pipe(tf.write_file(file))

    assert caught.value.filename == str(file)
    assert bytes_in(file) == content


async def test_a_file_of_another_group_can_be_written_by_a_user_who_cannot_set_that_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch()
    other = path.stat().st_gid + 1

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    status = os.stat_result([other if i == stat.ST_GID else part for i, part in enumerate(path.stat())])
    monkeypatch.setattr(os, "fchown", forbidden)
    target = file_target._open_beside(str(path), status)
    target.finish(durable=False)

    assert path.exists()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("text", "write_file expects bytes, got str 'text'; pipe through tf.encode() first"),
        (None, "write_file expects bytes, got NoneType None"),
        (7, "write_file expects bytes, got int 7"),
        ([1] * 1000, r"write_file expects bytes, got list \[1, 1, .*\.\.\."),
    ],
)
async def test_the_error_for_an_item_that_is_not_bytes_names_it(item: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message.replace("()", r"\(\)")) as caught:
        await tf.pipeline([b"fine", item], tf.write_file(tmp_path / "file"))

    assert note_of(caught.value).startswith("in stage 2 of 2: write_file(")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("sink", ["file", "stdout", "stream", "byte stream"])
async def test_the_error_for_an_item_that_is_not_bytes_shortens_it(sink: str, tmp_path: Path) -> None:
    text = "é" * 10**7
    sinks: dict[str, Callable[[], tf.Writable[Any, Any]]] = {
        "file": lambda: tf.write_file(tmp_path / "file"),
        "stream": lambda: tf.to_stream(memory_stream_one_way_pair()[0]),
    }

    async def fail() -> None:
        if sink in sinks:
            await tf.pipeline([text], sinks[sink]())
        elif sink == "stdout":
            file_writer.check_chunks("stdout", [text])
        else:
            async with tf.Duplex(tf.empty(), tf.collect()).open() as stream:
                await stream.send_all(text)  # type: ignore[arg-type]

    tracemalloc.start()
    try:
        with pytest.raises(TypeError, match=r"bytes.*, (not|got) (str )?'é+\.\.\.é+'") as caught:
            await fail()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()

    assert len(str(caught.value)) < 150


async def test_R18_empty_chunks_make_an_empty_file(tmp_path: Path) -> None:
    for chunks in ([], [b"", b""]):
        assert await tf.pipeline(chunks, tf.write_file(tmp_path / "file")) == 0
        assert (tmp_path / "file").read_bytes() == b""


async def test_a_failed_rename_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def write() -> None:
        async with tf.write_file(path).open() as send:
            await until(lambda: os.listdir(tmp_path))
            await send.send(b"a")
            os.mkdir(path)

    with pytest.raises(IsADirectoryError) as caught:
        await write()

    assert note_of(caught.value).startswith("in stage 1 of 1: write_file(")
    assert os.listdir(tmp_path) == ["file"]


async def test_a_failed_cleanup_is_added_to_the_failure_as_a_note(tmp_path: Path) -> None:
    @tf.readable
    async def vandal() -> AsyncIterator[Any]:
        await until(lambda: os.listdir(tmp_path))
        os.unlink(tmp_path / os.listdir(tmp_path)[0])
        yield "not bytes"

    with pytest.raises(TypeError) as caught:
        await vandal().pipe(tf.write_file(tmp_path / "file"))

    then, where = caught.value.__notes__
    assert then.startswith("and then: [Errno 2] No such file or directory")
    assert where.startswith("in stage 2 of 2: write_file(")


# Zero copy


async def test_a_file_or_a_range_of_it_is_copied(file: Path, content: bytes, tmp_path: Path) -> None:
    copy = tmp_path / "copy"

    assert await tf.read_file(file).pipe(tf.write_file(copy)) == MANY
    assert copy.read_bytes() == content
    assert await tf.read_file(file, start=5, stop=9).pipe(tf.write_file(copy)) == 4
    assert copy.read_bytes() == content[5:9]
    assert await tf.read_file(file, start=MANY + 5).pipe(tf.write_file(copy)) == 0
    assert copy.read_bytes() == b""
    assert await tf.read_file(file, stop=3).pipe(tf.write_file(copy, append=True)) == 3
    assert await tf.read_file(file, start=3, stop=5).pipe(tf.write_file(copy, append=True)) == 2
    assert copy.read_bytes() == content[:5]
    assert await tf.read_file(file, stop=3).pipe(tf.write_file(copy, atomic=False)) == 3
    assert copy.read_bytes() == content[:3]
    assert sorted(os.listdir(tmp_path)) == ["copy", "file"]


async def test_a_file_can_be_copied_onto_itself(file: Path, content: bytes) -> None:
    assert await tf.read_file(file).pipe(tf.write_file(file)) == MANY

    assert bytes_in(file) == content


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system has no copy_file_range")
async def test_no_byte_of_a_copy_passes_through_python(
    file: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    real = os.copy_file_range

    def counted(*args: Any) -> int:
        copied.append(real(*args))
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", counted)
    monkeypatch.delattr(os, "preadv", raising=False)
    monkeypatch.setattr(file_writer, "STEP", 1 << 20)

    await tf.read_file(file).pipe(tf.write_file(tmp_path / "copy"))

    assert sum(copied) == MANY
    assert max(copied) <= 1 << 20
    assert (tmp_path / "copy").read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system has no copy_file_range")
@pytest.mark.parametrize("code", [0, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_if_the_kernel_cannot_copy_trioflow_does(
    code: int, file: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> int:
        if code:
            raise OSError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(os, "copy_file_range", unable)

    assert await tf.read_file(file, start=7).pipe(tf.write_file(tmp_path / "copy")) == MANY - 7
    assert (tmp_path / "copy").read_bytes() == content[7:]


def offered_by(readable: Readable[bytes]) -> Offer:
    [stage] = readable._stages
    assert stage.offer is not None
    return stage.offer


async def test_a_file_that_has_become_shorter_is_copied_to_its_end(file: Path, content: bytes, tmp_path: Path) -> None:
    async with offered_by(tf.read_file(file)).open() as region:
        assert region is not None
        os.truncate(file, 1000)
        place = str(tmp_path / "copy")
        async with file_target.open_target(place, append=False, atomic=True, durable=False) as target:
            assert await target.copy(region.fd, region.start, region.stop) == 1000

    assert (tmp_path / "copy").read_bytes() == content[:1000]


async def test_R16_a_copy_is_cancelled_between_two_steps(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_writer, "STEP", 4096)
    if not hasattr(os, "copy_file_range"):
        pytest.skip("this system has no copy_file_range")
    real = os.copy_file_range
    steps = 0
    scope = trio.CancelScope()

    def step(*args: Any) -> int:
        nonlocal steps
        steps += 1
        if steps == 3:
            trio.from_thread.run_sync(scope.cancel)
            wait_until_cancelled()
        return real(*args)

    monkeypatch.setattr(os, "copy_file_range", step)

    with scope:
        await tf.read_file(file).pipe(tf.write_file(tmp_path / "copy"))

    assert scope.cancelled_caught
    assert steps == 3
    assert os.listdir(tmp_path) == ["file"]


class Region:
    """A region made by a test."""

    def __init__(self, failure: BaseException | None = None, *, is_there: bool = True) -> None:
        self._failure = failure
        self._is_there = is_there
        self.opened = self.closed = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        self.opened += 1
        if self._failure is not None:
            raise self._failure
        try:
            yield OpenRegion(-1, 3, 5) if self._is_there else None
        finally:
            self.closed += 1


def regional(region: Region, take: Callable[[Any], Awaitable[Any]]) -> tuple[Readable[Any], Source, Writable[Any, Any]]:
    source = Source([b"chunk"])
    head = Readable[Any]._of(Stage(label("head"), function=source.run, offer=Offer(OpenRegion, region.open)))
    tail = Writable[Any, Any]._of(Stage(label("tail"), function=Sink().run, takes={OpenRegion: take}))
    return head, source, tail


async def test_R3_a_sink_that_takes_the_region_returns_the_value_and_no_chunk_is_read() -> None:
    region = Region()

    async def take(opened: Any) -> Any:
        await trio.lowlevel.checkpoint()
        assert region.opened == region.closed + 1
        return opened.stop - opened.start

    head, source, tail = regional(region, take)

    assert await head.pipe(tail) == 2
    assert await tf.pipeline(head, tail) == 2
    assert (source.started, region.opened, region.closed) == (0, 2, 2)


async def test_with_a_transform_in_between_or_without_a_fixed_length_chunks_are_sent() -> None:
    async def take(_: Any) -> Any:
        raise AssertionError("there is nothing to take")

    region = Region()
    head, source, tail = regional(region, take)
    assert await head.pipe(unchanged()).pipe(tail) == "result"
    assert await head.pipe(unchanged().pipe(tail)) == "result"
    assert (source.started, region.opened) == (2, 0)

    region = Region(is_there=False)
    head, source, tail = regional(region, take)
    assert await head.pipe(tail) == "result"
    assert (source.started, region.closed) == (1, 1)


async def test_R11_a_region_that_cannot_be_opened_is_a_failure_of_the_source() -> None:
    failure = Boom()

    async def take(_: Any) -> Any:
        raise AssertionError("there is nothing to take")

    head, _, tail = regional(Region(failure), take)

    with pytest.raises(Boom) as caught:
        await head.pipe(tail)

    assert caught.value is failure
    assert note_of(failure) == "in stage 1 of 2: head()"


async def test_R11_the_failure_of_a_sink_to_take_a_region_names_the_sink() -> None:
    failure, region = Boom(), Region()

    async def take(_: Any) -> Any:
        raise failure

    head, _, tail = regional(region, take)

    with pytest.raises(Boom) as caught:
        await head.pipe(tail)

    assert caught.value is failure
    assert note_of(failure) == "in stage 2 of 2: tail()"
    assert region.closed == 1


async def test_R16_a_sink_that_takes_a_region_can_be_cancelled_and_still_fail() -> None:
    region = Region()
    failure = Boom()
    fails = False

    async def take(_: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                if fails:
                    raise failure

    head, _, tail = regional(region, take)

    with trio.CancelScope() as scope:
        scope.cancel()
        await head.pipe(tail)
    assert scope.cancelled_caught

    fails = True
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(ExceptionGroup) as caught:
            await head.pipe(tail)
    assert region.closed == 2
    assert caught.value.exceptions == (failure,)
    assert note_of(caught.value) == "in stage 2 of 2: tail()"


async def test_a_region_has_the_start_and_stop_of_the_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path, options, ends in [
        (file, {}, (0, MANY)),
        (file, {"start": 5}, (5, MANY)),
        (file, {"start": 5, "stop": 9}, (5, 9)),
        (file, {"start": MANY - 1, "stop": MANY + 9}, (MANY - 1, MANY)),
        (file, {"start": MANY + 9}, (MANY + 9, MANY + 9)),
        (tmp_path / "empty", {}, (0, 0)),
    ]:
        async with offered_by(tf.read_file(path, **options)).open() as opened:
            assert opened is not None
            assert (opened.start, opened.stop) == ends
            assert not os.get_inheritable(opened.fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened.fd)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls to sync and rename files, in order, by the names of the files."""
    made: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(fd: int) -> None:
        made.append(f"fsync {re.sub('[0-9a-f]{16}', 'HEX', Path(os.readlink(f'/proc/self/fd/{fd}')).name)}")
        fsync(fd)

    def recorded_replace(source: str, target: str) -> None:
        made.append(f"replace {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return made


@pytest.mark.parametrize(
    ("options", "is_there", "expected"),
    [
        ({}, False, ["replace new"]),
        ({"durable": True}, False, ["fsync .new.HEX.tmp", "replace new", "fsync place"]),
        ({"durable": True}, True, ["fsync .new.HEX.tmp", "replace new", "fsync place"]),
        ({"durable": True, "atomic": False}, False, ["fsync new", "fsync place"]),
        ({"durable": True, "atomic": False}, True, ["fsync new", "fsync place"]),
        ({"durable": True, "append": True}, True, ["fsync new", "fsync place"]),
        ({"append": True}, True, []),
    ],
)
async def test_a_durable_file_is_synced_before_it_is_renamed(
    tmp_path: Path, calls: list[str], options: dict[str, bool], is_there: bool, expected: list[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if is_there:
        (place / "new").write_bytes(b"old")

    assert await tf.pipeline([b"abc"], tf.write_file(place / "new", **options)) == 3
    assert calls == expected


async def test_a_copy_inside_the_kernel_is_synced_too(file: Path, tmp_path: Path, calls: list[str]) -> None:
    assert await tf.read_file(file).pipe(tf.write_file(tmp_path / "copy", durable=True)) == MANY
    assert calls[:2] == ["fsync .copy.HEX.tmp", "replace copy"]


async def test_R13_a_durable_file_that_cannot_be_synced_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        await tf.pipeline([b"abc"], tf.write_file(tmp_path / "new", durable=True))
    assert os.listdir(tmp_path) == []


async def test_a_durable_write_to_a_pipe_syncs_nothing(tmp_path: Path, calls: list[str]) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: tf.pipeline([b"abc"], tf.write_file(path, durable=True)))
        assert await tf.read_file(path).pipe(tf.join()) == b"abc"
    assert calls == []


@pytest.mark.parametrize("name", ["song.mp3", "ä" * 120, "x" * 255])
async def test_a_temporary_file_is_named_after_the_file_that_it_becomes(tmp_path: Path, name: str) -> None:
    async with tf.write_file(tmp_path / name).open() as send:
        await send.send(b"abc")
        await until(lambda: os.listdir(tmp_path))
        [temporary] = os.listdir(os.fsencode(tmp_path))

        assert re.fullmatch(rb"\.(.+)\.[0-9a-f]{16}\.tmp", temporary, re.DOTALL)
        assert os.fsencode(name).startswith(temporary[1:-21])
        assert len(temporary) <= 143

    assert os.listdir(tmp_path) == [name]
