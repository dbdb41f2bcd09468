"""Where the system refuses the calls that save time, as sandboxes and some file systems do, everything works without them.

Each test runs this file as a program: it has the kernel refuse the calls to it (seccomp), and then works on real files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trioflow as tf
from trioflow import http

# Of each call: its number on an x86_64, and on an aarch64.
CALLS = {
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
    "openat2": (437, 437),
}
MACHINE = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
SIZE = 3_000_000

pytestmark = [
    pytest.mark.slow,  # each test runs a program
    pytest.mark.skipif(
        sys.platform != "linux" or MACHINE is None, reason="needs seccomp, and the numbers of the calls"
    ),
]


def refuse(calls: list[str], code: int) -> None:
    """From now on, the kernel answers `calls` of this process with the error `code`."""
    assert MACHINE is not None
    load, is_equal, done = 0x20, 0x15, 0x06  # instructions of BPF
    steps = [struct.pack("HBBI", load, 0, 0, 0)]  # the number of the call
    for name in calls:
        steps += [
            struct.pack("HBBI", is_equal, 0, 1, CALLS[name][MACHINE]),
            struct.pack("HBBI", done, 0, 0, 0x50000 | code),
        ]
    steps.append(struct.pack("HBBI", done, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(b"".join(steps))
    given = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.addressof(given), 0, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if prctl(*map(ctypes.c_ulong, arguments)):
            raise OSError(ctypes.get_errno(), "prctl")


async def work(directory: Path) -> None:
    """Read, copy, write and serve a file, and read and write pipes."""
    content = os.urandom(SIZE)
    file, copy = directory / "file", directory / "copy"
    assert await tf.from_iterable([content]).pipe(tf.write_file(file)) == SIZE
    assert await tf.read_file(file).pipe(tf.join()) == content
    assert await tf.read_file(file).pipe(tf.write_file(copy)) == SIZE
    assert copy.read_bytes() == content
    assert await tf.read_file(file).pipe(tf.process(["cat"])).pipe(tf.join()) == content
    assert await tf.stdin().pipe(tf.stdout()) == len(b"through pipes\n")
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
            await http.serve(http.files(directory), port=0, task_status=task_status)

        (url,) = await nursery.start(serve)
        asked = tf.from_iterable([b"GET /file HTTP/1.0\r\nHost: localhost\r\n\r\n"])
        answer = await asked.pipe(tf.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))).pipe(tf.join())
        assert answer.partition(b"\r\n\r\n")[2] == content
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("call", CALLS)
def test_files_pipes_and_the_server_do_without_a_call_that_a_sandbox_refuses(call: str, tmp_path: Path) -> None:
    run_refusing([call], errno.EPERM, tmp_path)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_files_pipes_and_the_server_do_without_any_of_these_calls(code: int, tmp_path: Path) -> None:
    run_refusing([*CALLS], code, tmp_path)


def run_refusing(calls: list[str], code: int, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tests.io.test_refused_calls", ",".join(calls), str(code), directory],
        input=b"through pipes\n",
        capture_output=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"through pipes\n")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","), int(sys.argv[2]))
    trio.run(work, Path(sys.argv[3]))
