"""Standard input and output of processes: pipes, files, terminals, sockets, or closed."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import trioflow as tf
from trioflow.io import file_reader, stdio

pytestmark = pytest.mark.slow  # each test starts a Python process

PATIENCE = 60  # seconds, which pass only if a test fails
BEGIN = "import os, sys, trio, trioflow as tf\n"
COPY = BEGIN + "print(trio.run(tf.stdin().pipe, tf.stdout()), file=sys.stderr)"
WITHOUT_NOWAIT = "from trioflow.io import file_reader, stdio\nfile_reader.NOWAIT = stdio.NOWAIT = 0\n"
MUCH = b"0123456789abcdef" * 20_000  # more than a pipe holds


def python(source: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process of its own."""
    options = {"stdout": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, "-c", source], stderr=subprocess.PIPE, timeout=PATIENCE, **options)


def lines_of(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stderr.decode().splitlines()


@pytest.mark.parametrize("given", [b"", b"a", MUCH])
@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_pipes_carry_every_byte(given: bytes, before: str) -> None:
    done = python(before + COPY, input=given)

    assert done.stdout == given
    assert lines_of(done) == [str(len(given))]


def test_files_carry_every_byte_and_the_next_process_continues_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"skipped " + MUCH)
    with source.open("rb", buffering=0) as given, target.open("wb", buffering=0) as taken:
        given.seek(8)
        taken.write(b"before ")
        done = python(COPY, stdin=given, stdout=taken)
        taken.write(b" after")

        assert lines_of(done) == [str(len(MUCH))]
        assert given.read() == b""
    assert target.read_bytes() == b"before " + MUCH + b" after"


def test_the_position_in_a_file_is_where_the_run_stopped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(MUCH * 20)
    program = (
        BEGIN + "print(len(trio.run(tf.stdin().pipe, tf.first())) <= os.lseek(0, 0, os.SEEK_CUR), file=sys.stderr)\n"
        "rest = os.lseek(0, 0, os.SEEK_CUR)\n"
        "print(rest + len(trio.run(tf.stdin().pipe, tf.join())), file=sys.stderr)"
    )

    with source.open("rb") as given:
        done = python(program, stdin=given)

    assert lines_of(done) == ["True", str(len(MUCH) * 20)]


def test_devices_are_read_and_written() -> None:
    done = python(COPY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert lines_of(done) == ["0"]

    done = python(COPY, input=MUCH, stdout=subprocess.DEVNULL)
    assert lines_of(done) == [str(len(MUCH))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_a_full_disk_is_a_failure(before: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = python(before + COPY, input=MUCH, stdout=full)

    assert lines_of(done)[-2:] == ["OSError: [Errno 28] No space left on device", "in stage 2 of 2: stdout()"]


@pytest.mark.parametrize(
    ("closed", "what", "place"), [("<&-", "input", "1 of 2: stdin()"), (">&-", "output", "2 of 2: stdout()")]
)
def test_a_process_without_a_standard_stream_gets_an_error_that_says_so(closed: str, what: str, place: str) -> None:
    command = ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, COPY]

    done = subprocess.run(command, input=b"a", capture_output=True, timeout=PATIENCE, check=False)

    assert lines_of(done)[-2:] == [f"OSError: [Errno 9] this process has no standard {what}", f"in stage {place}"]


@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_sockets_carry_every_byte(before: str) -> None:
    near, far = socket.socketpair()
    with (
        near,
        far,
        subprocess.Popen(
            [sys.executable, "-c", before + COPY], stdin=far, stdout=far, stderr=subprocess.PIPE
        ) as process,
    ):
        far.close()
        got = b""
        near.settimeout(PATIENCE)
        for at in range(0, len(MUCH), 10_000):
            piece = MUCH[at : at + 10_000]
            near.sendall(piece)
            while len(got) < at + len(piece):
                got += near.recv(1 << 16)
        near.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        assert process.wait(PATIENCE) == 0

    assert got == MUCH


def terminal() -> tuple[int, int]:
    """Open a pseudo-terminal without echo; return its controlling end and the terminal itself."""
    owner, own = pty.openpty()
    modes = termios.tcgetattr(own)
    modes[1] &= ~termios.OPOST
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(own, termios.TCSANOW, modes)
    return owner, own


def is_blocking(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_a_terminal_is_read_line_by_line_and_its_settings_are_unchanged(before: str) -> None:
    owner, own = terminal()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", before + COPY], stdin=own, stdout=own, stderr=subprocess.PIPE
        ) as process:
            for line in (b"one\n", b"two\n", b"x" * 3000 + b"\n"):
                os.write(owner, line)
                got = b""
                while len(got) < len(line):
                    got += os.read(owner, 4096)
                assert got == line
                assert is_blocking(own)
            os.write(owner, b"\x04")  # Ctrl-D
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b"3009\n"
        assert is_blocking(own)
    finally:
        os.close(owner)
        os.close(own)


def test_the_mode_of_a_pipe_shared_with_others_is_unchanged() -> None:
    read, write = os.pipe()
    answer, output = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", COPY], stdin=read, stdout=output, stderr=subprocess.PIPE
        ) as process:
            os.write(write, b"a")
            assert os.read(answer, 10) == b"a"
            assert all(map(is_blocking, (read, output)))
            os.close(write)
            assert process.wait(PATIENCE) == 0
        assert all(map(is_blocking, (read, output)))
    finally:
        for fd in (read, answer, output):
            os.close(fd)


@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_R16_a_quiet_input_and_a_full_output_can_be_cancelled(before: str) -> None:
    program = (
        before
        + BEGIN
        + (
            "async def main():\n"
            "    for run in (lambda: tf.stdin().pipe(tf.collect()), lambda: tf.pipeline([bytes(10**6)], tf.stdout())):\n"
            "        with trio.move_on_after(0.1) as scope:\n"
            "            await run()\n"
            "        print(scope.cancelled_caught, file=sys.stderr)\n"
            "    os._exit(0)\n"
            "trio.run(main)"
        )
    )
    (read, write), (taken, output) = os.pipe(), os.pipe()
    try:
        done = python(program, stdin=read, stdout=output)
    finally:
        for fd in (read, write, taken, output):
            os.close(fd)

    assert lines_of(done) == ["True", "True"]


@pytest.mark.parametrize("before", ["", WITHOUT_NOWAIT])
def test_R15_a_broken_output_pipe_ends_the_run_with_an_error(before: str) -> None:
    program = (
        before
        + BEGIN
        + (
            "import itertools\n"
            "ended = []\n"
            "def endless():\n"
            "    try:\n"
            "        yield from itertools.repeat(b'line\\n')\n"
            "    finally:\n"
            "        ended.append(True)\n"
            "try:\n"
            "    trio.run(tf.from_iterable(endless()).pipe, tf.stdout())\n"
            "except BrokenPipeError as exc:\n"
            "    print(ended, exc.__notes__, file=sys.stderr)"
        )
    )
    command = ["sh", "-c", '"$0" -c "$1" | head -n 3', sys.executable, program]

    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)

    assert done.stdout == b"line\n" * 3
    assert lines_of(done) == ["[True] ['in stage 2 of 2: stdout()']"]


def test_the_standard_streams_are_open_after_a_run() -> None:
    program = BEGIN + (
        "print('first')\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        for _ in range(2):\n"
        "            nursery.start_soon(tf.from_iterable(['ä', b'b', bytearray(b'c')]).pipe, tf.stdout())\n"
        "    return await tf.stdin().pipe(tf.join())\n"
        "print(trio.run(main), trio.run(main))"
    )

    done = python(program, input=b"given")

    out = done.stdout.decode()
    assert sorted(out) == sorted("first\n" + "äbc" * 4 + "b'given' b''\n")
    assert out.startswith("first\n")
    assert out.endswith("b'given' b''\n")
    assert lines_of(done) == []


def test_stdout_works_without_sys_stdout() -> None:
    done = python(BEGIN + "sys.stdout = None\ntrio.run(tf.from_iterable(['a']).pipe, tf.stdout())")

    assert (done.stdout, lines_of(done)) == (b"a", [])


def redirect(fd: int, target: int) -> Callable[[], None]:
    """Replace a standard stream by `target`; return a function that restores it."""
    old = os.dup(fd)
    os.dup2(target, fd)

    def undo() -> None:
        os.dup2(old, fd)
        os.close(old)

    return undo


async def test_a_directory_as_standard_input_is_an_error(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    undo = redirect(0, directory)
    try:
        with pytest.raises(IsADirectoryError, match="'<stdin>'") as caught:
            await tf.stdin().pipe(tf.collect())
    finally:
        undo()
        os.close(directory)

    assert caught.value.__notes__ == ["in stage 1 of 2: stdin()"]


async def test_two_runs_do_not_share_the_input() -> None:
    read, write = os.pipe()
    undo = redirect(0, read)
    try:
        async with tf.stdin().open() as first:
            os.write(write, b"a")
            assert await first.receive() == b"a"
            with pytest.raises(trio.BusyResourceError, match="another run is reading the standard input") as caught:
                await tf.stdin().pipe(tf.collect())
            assert caught.value.__notes__ == ["in stage 1 of 2: stdin()"]
            os.write(write, b"b")
            assert await first.receive() == b"b"
        os.close(write)
        assert await tf.stdin().pipe(tf.collect()) == []
    finally:
        undo()
        os.close(read)


@pytest.mark.parametrize("item", [None, 3, ["a"]])
async def test_the_error_for_an_item_that_cannot_be_written_names_it(item: object) -> None:
    sink: tf.Writable[Any, int] = tf.stdout()

    with pytest.raises(TypeError, match="stdout expects bytes or str, got ") as caught:
        await tf.pipeline([item], sink)

    assert caught.value.__notes__ == ["in stage 2 of 2: stdout()"]


async def test_it_waits_again_if_another_process_was_faster_to_read_or_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    undo = [redirect(0, read), redirect(1, write)]
    refused = []

    def refuse_once(name: str) -> None:
        real = getattr(os, name)

        def faster(*args: Any) -> Any:
            if name not in refused:
                refused.append(name)
                raise BlockingIOError
            return real(*args)

        monkeypatch.setattr(os, name, faster)

    monkeypatch.setattr(file_reader, "NOWAIT", 0)
    monkeypatch.setattr(stdio, "NOWAIT", 0)
    refuse_once("read")
    refuse_once("write")
    try:
        assert await tf.pipeline(["abc"], tf.stdout()) == 3
        assert await tf.stdin().pipe(tf.first()) == b"abc"
    finally:
        monkeypatch.undo()
        for put_back in undo:
            put_back()
        os.close(read)
        os.close(write)

    assert refused == ["write", "read"]
