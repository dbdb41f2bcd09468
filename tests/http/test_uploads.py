"""A request's body written to a file: from the socket, in a thread, without a channel in between."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import connected, exchanged, read_until, reset, serving
from trioflow import http
from trioflow.http.wire.socket import SocketTransport
from trioflow.io import file_writer

MIB = 1 << 20


def head(size: int, more: str = "") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n{more}\r\n".encode()


def content(size: int) -> bytes:
    return (b"%07d\n" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


class Upload:
    """A handler that writes each body to a file, and records exceptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raised: BaseException | None = None
        self.over = trio.Event()

    async def __call__(self, request: http.Request, response: http.Response) -> None:
        try:
            await response.send(b"%d" % await request.body.pipe(tf.write_file(self.path)))
        except BaseException as exc:
            self.raised = exc
            raise
        finally:
            self.over.set()

    @property
    def note(self) -> str:
        return "".join(getattr(self.raised, "__notes__", []))


@pytest.mark.parametrize("size", [0, 1, 65536, 5 * MIB])
@pytest.mark.parametrize("delay", [False, True])
async def test_a_body_is_written_as_it_was_sent_and_the_next_request_is_read(
    size: int, delay: bool, tmp_path: Path
) -> None:
    sent = content(size)
    second = head(3) + b"abc"

    with trio.fail_after(60):
        async with serving(Upload(tmp_path / "file")) as port, connected(port) as stream:
            if delay:
                await stream.send_all(head(size))
                await wait_all_tasks_blocked()
                await stream.send_all(sent)
                await read_until(stream, b"%d" % size)
            else:
                await stream.send_all(head(size) + sent)
                await read_until(stream, b"%d" % size)
            assert (tmp_path / "file").read_bytes() == sent
            await stream.send_all(second)
            assert (await read_until(stream, b"\r\n\r\n3")).startswith(b"HTTP/1.1 200 ")

    assert (tmp_path / "file").read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["file"]


async def test_bytes_directly_after_a_body_are_the_next_request(tmp_path: Path) -> None:
    upload = Upload(tmp_path / "file")

    async with serving(upload) as port:
        answers = await exchanged(port, head(MIB) + bytes(MIB) + head(2) + b"ab")

    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert (tmp_path / "file").read_bytes() == b"ab"


async def test_a_client_that_waits_for_100_continue_gets_it(tmp_path: Path) -> None:
    async with serving(Upload(tmp_path / "file")) as port, connected(port) as stream:
        await stream.send_all(head(5, "Expect: 100-continue\r\n"))
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"hello")
        await read_until(stream, b"\r\n\r\n5")

    assert (tmp_path / "file").read_bytes() == b"hello"


async def test_bytes_written_directly_to_a_file_are_counted(tmp_path: Path) -> None:
    counters = http.Counters()

    async with serving(Upload(tmp_path / "file"), counters=counters) as port:
        await exchanged(port, head(3 * MIB) + bytes(3 * MIB))

    assert counters.received == 3 * MIB + len(head(3 * MIB))


@pytest.mark.parametrize("part", [10, 2 * MIB])
async def test_R10_R13_a_cut_off_body_is_an_error_of_its_stage_and_leaves_no_file(part: int, tmp_path: Path) -> None:
    upload = Upload(tmp_path / "file")

    async with serving(upload) as port:
        answer = await exchanged(port, head(3 * MIB) + bytes(part))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert isinstance(upload.raised, http.RequestError)
    assert f"ended {3 * MIB - part} bytes before" in str(upload.raised)
    assert upload.note == "in stage 1 of 2: body()"
    assert os.listdir(tmp_path) == []


async def test_R13_a_client_that_aborts_its_upload_leaves_no_file(tmp_path: Path) -> None:
    upload = Upload(tmp_path / "file")

    with trio.fail_after(60):
        async with serving(upload) as port, connected(port) as stream:
            await stream.send_all(head(3 * MIB) + bytes(MIB))
            reset(stream)
            await upload.over.wait()

    assert isinstance(upload.raised, (trio.Cancelled, trio.BrokenResourceError))
    assert os.listdir(tmp_path) == []


async def test_a_socket_that_breaks_while_a_thread_reads_it_counts_as_a_client_that_left() -> None:
    ours, theirs = socket.socketpair()
    lost: list[str] = []
    transport = SocketTransport(ours, stall=1, rate=0, on_loss=lambda: lost.append("lost"))
    ours.setblocking(False)
    written: list[bytes] = []

    def write(piece: bytes | memoryview) -> None:
        written.append(bytes(piece))
        theirs.close()  # with unread data, which makes it a reset

    ours.send(b"unread")
    with pytest.raises(trio.BrokenResourceError):
        await transport.copy(100, [b"a"], write)

    assert (written, lost) == ([b"a"], ["lost"])
    transport.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
async def test_R11_a_full_disk_is_an_error_of_write_file(caplog: pytest.LogCaptureFixture) -> None:
    upload = Upload(Path("/dev/full"))

    async with serving(upload) as port:
        answer = await exchanged(port, head(3) + b"abc")

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert isinstance(upload.raised, OSError)
    assert upload.raised.errno == errno.ENOSPC
    assert upload.note.startswith("in stage 2 of 2: write_file(")


async def test_a_missing_directory_is_an_error_of_write_file_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload = Upload(tmp_path / "missing" / "file")

    async with serving(upload) as port:
        await exchanged(port, head(3) + b"abc")

    assert isinstance(upload.raised, FileNotFoundError)
    assert upload.note.startswith("in stage 2 of 2: write_file(")


async def test_a_body_can_be_written_to_a_file_only_once(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handler(request: http.Request, response: http.Response) -> None:
        await request.body.pipe(tf.write_file(tmp_path / "file"))
        for again in (tf.write_file(tmp_path / "again"), tf.drain()):
            with pytest.raises(trio.ClosedResourceError, match="can only run once") as caught:
                await request.body.pipe(again)
            seen.append(str(caught.value))

    async with serving(handler) as port:
        await exchanged(port, head(3) + b"abc")

    assert len(seen) == 2
    assert os.listdir(tmp_path) == ["file"]


async def test_a_body_in_chunks_is_written_through_a_channel_with_the_same_result(tmp_path: Path) -> None:
    request = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    async with serving(Upload(tmp_path / "file")) as port:
        assert (await exchanged(port, request)).endswith(b"\r\n\r\n5")

    assert (tmp_path / "file").read_bytes() == b"abcde"


async def test_a_pipe_is_written_as_fast_as_its_reader_reads(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sent = content(MIB)

    with trio.fail_after(60):
        async with serving(Upload(path)) as port, trio.open_nursery() as nursery:
            nursery.start_soon(exchanged, port, head(MIB) + sent)
            got = await tf.read_file(path).pipe(tf.join())

    assert got == sent


async def test_R16_a_pipe_that_nobody_reads_does_not_delay_a_cancellation(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    upload = Upload(path)

    with trio.fail_after(60):
        async with serving(upload) as port, connected(port) as stream:
            await stream.send_all(head(MIB) + bytes(100_000))  # more than a pipe holds
            await wait_all_tasks_blocked(0.05)
            reset(stream)
            await upload.over.wait()

    assert isinstance(upload.raised, (trio.Cancelled, trio.BrokenResourceError))
    os.close(reader)


async def test_R16_R17_writing_a_body_to_a_file_does_not_block_the_event_loop_and_ends_with_a_cancelled_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, working, go_on = file_writer.write_fully, trio.Event(), threading.Event()
    calls: list[Any] = []

    def slow(fd: int, pieces: Any) -> None:
        trio.from_thread.run_sync(working.set)
        assert go_on.wait(60)  # only the event loop sets it, so the loop is not blocked
        os.fstat(fd)  # raises if the file was closed in the meantime
        real(fd, pieces)
        calls.append("over")

    monkeypatch.setattr(file_writer, "write_fully", slow)
    upload = Upload(tmp_path / "file")
    with trio.fail_after(60):
        async with serving(upload) as port, connected(port) as stream:
            await stream.send_all(head(5) + b"abc")
            await working.wait()
            reset(stream)
            await wait_all_tasks_blocked(0.05)
            assert not upload.over.is_set()
            go_on.set()
            await upload.over.wait()

    assert calls == ["over"]
    assert os.listdir(tmp_path) == []
