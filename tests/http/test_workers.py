"""Several processes that serve one port: what they survive, and that clients hardly notice."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
import trustme

from tests import called
from tests.http import supervised
from tests.http.client import Client, connected, exchanged, read_all
from trioflow import http

pytestmark = pytest.mark.slow  # servers of several processes

ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Program:
    """A running supervisor: its process, its port, and its output."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.line = ""
        self.printed = b""
        self.said = b""

    @property
    def port(self) -> int:
        return int(self.line.rpartition(":")[2])

    def workers(self) -> set[int]:
        return set(called.children(self.process.pid))

    async def until(self, condition: Any) -> None:
        await trio.to_thread.run_sync(called.wait_until, condition)

    async def ended(self) -> int:
        with trio.fail_after(60):
            return await self.process.wait()

    async def listen(self) -> None:
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.said += chunk

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.printed += chunk


@asynccontextmanager
async def running(words: list[str], *, is_silent: bool = False, **environment: str) -> AsyncGenerator[Program, None]:
    """Run a program, and wait for the first line it prints unless `is_silent`."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    program = Program(process)
    left: set[int] = set()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.listen)
            nursery.start_soon(program.read)
            with trio.fail_after(60):
                while not (is_silent or b"\n" in program.printed or process.returncode is not None):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            program.line = program.printed.partition(b"\n")[0].decode()
            try:
                yield program
            finally:
                left = program.workers()
                if process.returncode is None:
                    process.kill()
                await process.wait()
    finally:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            await trio.aclose_forcefully(stream)
    await trio.to_thread.run_sync(called.wait_until, lambda: not any(map(called.is_there, left)))


def supervising(**options: Any) -> Any:
    return running(["-m", "tests.http.supervised", json.dumps(options)])


async def asked(port: int) -> int:
    return int((await exchanged(port, GET, half_close=False)).rpartition(b"\n")[2])


class Load:
    """Clients that send requests repeatedly: some with a connection for each, some with a persistent one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered_by: list[int] = []
        self.failures: list[BaseException] = []

    async def _ask_anew(self) -> None:
        while True:
            await self._count(partial(asked, self.port))

    async def _ask_on(self) -> None:
        while True:
            async with connected(self.port) as stream:
                client = Client(stream)
                while await self._count(partial(self._ask, client)):
                    if client.connection.their_state is h11.MUST_CLOSE:
                        break

    async def _ask(self, client: Client) -> int:
        return int((await client.ask("GET", "/"))[2])

    async def _count(self, ask: Any) -> bool:
        try:
            self.answered_by.append(await ask())
        except (OSError, trio.BrokenResourceError, ValueError, AssertionError, h11.RemoteProtocolError) as exc:
            self.failures.append(exc)
            await trio.sleep(0.01)
            return False
        return True

    @asynccontextmanager
    async def on(self) -> AsyncGenerator[Load, None]:
        async with trio.open_nursery() as nursery:
            for client in (self._ask_anew, self._ask_on, self._ask_on):
                nursery.start_soon(client)
            yield self
            nursery.cancel_scope.cancel()


async def test_several_processes_serve_one_port() -> None:
    async with supervising(workers=3) as program:
        workers = program.workers()
        assert len(workers) == 3
        async with Load(program.port).on() as load:
            await program.until(lambda: set(load.answered_by) == workers)

        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0

    assert program.printed.endswith(b"\nreturned\n")
    assert program.said == b""


async def test_a_killed_worker_loses_only_its_own_requests_and_is_replaced(tmp_path: Path) -> None:
    async with supervising(handler="wait") as program, Load(program.port).on() as load:
        before = program.workers()
        async with connected(program.port) as stream:
            await stream.send_all(f"GET {tmp_path}/go HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await program.until((tmp_path / "go.pid").exists)
            victim = int((tmp_path / "go.pid").read_text())
            os.kill(victim, signal.SIGKILL)

            assert await read_all_or_reset(stream) == b""
        await program.until(lambda: len(program.workers() - {victim}) == 2)
        [new] = program.workers() - before
        await program.until(lambda: new in load.answered_by)

    # Each client had at most one request in progress, and no connection was refused.
    assert len(load.failures) <= 3
    assert not any(isinstance(exc, ConnectionRefusedError) for exc in load.failures)
    assert f"worker process {victim} was killed by SIGKILL; starting another in 0.1 seconds" in program.said.decode()


async def read_all_or_reset(stream: trio.SocketStream) -> bytes:
    try:
        return await read_all(stream)
    except trio.BrokenResourceError:
        return b""


async def test_sighup_replaces_all_workers_and_no_request_fails() -> None:
    async with supervising() as program, Load(program.port).on() as load:
        await program.until(lambda: set(load.answered_by) == program.workers())
        for _ in range(2):
            before = program.workers()
            program.process.send_signal(signal.SIGHUP)
            await program.until(lambda before=before: not program.workers() & before)
            count = len(load.answered_by)
            await program.until(lambda count=count: set(load.answered_by[count:]) >= program.workers())
        assert len(program.workers()) == 2

    assert load.failures == []
    assert len(set(load.answered_by)) == 6
    assert program.said == b""


async def test_sighup_while_a_worker_is_being_replaced_replaces_all_again() -> None:
    async with supervising() as program:
        old = program.workers()
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: program.workers() - old)
        first = program.workers() - old
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: len(program.workers()) == 2 and not program.workers() & (old | first))

        assert await asked(program.port) not in old | first  # another, which may be replaced at this moment


async def test_after_sigterm_requests_in_progress_finish_and_no_more_are_accepted(tmp_path: Path) -> None:
    async with supervising(handler="wait") as program, connected(program.port) as stream:
        await stream.send_all(f"GET {tmp_path}/go HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await stream.send_eof()
        await program.until((tmp_path / "go.pid").exists)
        program.process.send_signal(signal.SIGTERM)
        with trio.fail_after(60):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", program.port)).aclose()
                except OSError:
                    break
        (tmp_path / "go").touch()
        answer = await read_all(stream)

        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await program.ended() == 0


async def test_a_second_sigterm_kills_the_remaining_workers(tmp_path: Path) -> None:
    async with supervising(handler="block", grace=600) as program, connected(program.port) as stream:
        await stream.send_all(f"GET {tmp_path}/pid HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await program.until((tmp_path / "pid").exists)
        workers = program.workers()
        program.process.send_signal(signal.SIGTERM)
        await program.until(lambda: len(program.workers()) == 1)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0

    assert not any(map(called.is_there, workers))


async def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with supervising(handler="wait") as program, connected(program.port) as stream:
        await stream.send_all(f"GET {tmp_path}/go HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await stream.send_eof()
        await program.until((tmp_path / "go.pid").exists)
        workers = program.workers()
        program.process.kill()
        await program.ended()
        await trio.sleep(0.1)
        (tmp_path / "go").touch()

        assert (await read_all(stream)).startswith(b"HTTP/1.1 200 OK\r\n")  # requests in progress end normally
        await program.until(lambda: not any(map(called.is_there, workers)))

    assert len(workers) == 2


async def test_a_worker_that_keeps_failing_is_replaced_after_increasing_pauses() -> None:
    async with supervising(handler="leave") as program:

        def pauses() -> list[bytes]:
            return re.findall(rb"ended with exit status 3; starting another in ([\d.]+) seconds", program.said)

        for count in range(1, 4):
            assert await read_nothing(program.port) == b""
            await program.until(lambda count=count: len(pauses()) == count and len(program.workers()) == 2)

    assert len(pauses()) == 3
    assert set(pauses()) <= {b"0.1", b"0.2", b"0.4"}
    assert len(set(pauses())) >= 2  # of two workers, at least one has ended twice


async def read_nothing(port: int) -> bytes:
    try:
        return await exchanged(port, GET, half_close=False)
    except (OSError, trio.BrokenResourceError):
        return b""


async def test_a_worker_that_was_signalled_directly_is_replaced() -> None:
    async with supervising() as program:
        [one, other] = program.workers()
        os.kill(one, signal.SIGTERM)
        await program.until(lambda: len(program.workers() - {one}) == 2)

        assert other in program.workers()
        assert f"worker process {one} ended with exit status 0" in program.said.decode()


# Workers that do not respond.


async def test_a_stopped_worker_is_replaced() -> None:
    async with supervising(worker_timeout=2) as program:
        [victim, other] = program.workers()
        os.kill(victim, signal.SIGSTOP)
        await program.until(lambda: len(program.workers() - {victim}) == 2)

        assert other in program.workers()
        assert not called.is_there(victim)
        said = f"worker process {victim} has not run its tasks for 2 seconds; starting another in 0.1 seconds"
        assert said in program.said.decode()


async def test_a_worker_whose_handler_blocks_is_replaced(tmp_path: Path) -> None:
    async with supervising(handler="block", worker_timeout=0.5) as program, connected(program.port) as stream:
        await stream.send_all(f"GET {tmp_path}/pid HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with trio.fail_after(60):
            assert await read_all_or_reset(stream) == b""
        victim = int((tmp_path / "pid").read_text())
        await program.until(lambda: len(program.workers() - {victim}) == 2)

        assert f"worker process {victim} has not run its tasks for 0.5 seconds" in program.said.decode()


# Resources that the system may refuse.


@contextmanager
def descriptors_left(count: int, process: int = 0) -> Generator[None, None, None]:
    """Limit a process, by default this one, to `count` more descriptors."""
    used = {int(entry.name) for entry in Path(f"/proc/{process or os.getpid()}/fd").iterdir()}
    free = [number for number in range(max(used) + count + 2) if number not in used]
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (free[count], before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)


def descriptors_of(process: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was open for a moment
            found.add(os.readlink(entry))
    return found


NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists descriptors there")


@NEEDS_PROC
# In addition to two of the dead worker, so that it fails at /dev/null or at Popen's pipe.
@pytest.mark.parametrize("count", [0, 2])
async def test_starting_a_worker_is_retried_while_the_others_continue(count: int) -> None:
    async with supervising() as program:
        [victim, other] = program.workers()
        with descriptors_left(count, program.process.pid):
            os.kill(victim, signal.SIGKILL)
            await program.until(lambda: program.said.count(b"cannot be started: [Errno 24]") >= 2)
            assert await asked(program.port) == other
            before = descriptors_of(program.process.pid)
            tries = program.said.count(b"cannot be started: [Errno 24]")
            await program.until(lambda: program.said.count(b"cannot be started: [Errno 24]") > tries)
            before &= descriptors_of(program.process.pid)  # without what an attempt had opened at that moment
        await program.until(lambda: len(program.workers()) == 2)
        assert other in program.workers()
        assert descriptors_of(program.process.pid) >= before - {"/dev/null"}

    pauses = re.findall(rb"Too many open files[^;]*; starting another in ([\d.]+) seconds", program.said)
    assert pauses[:2] == [b"0.2", b"0.4"]
    assert b"Traceback" not in program.said
    assert b"ignored" not in program.said  # as a warning about an unclosed resource would be


@NEEDS_PROC
async def test_if_sighup_cannot_start_a_worker_the_old_ones_continue() -> None:
    async with supervising() as program:
        old = program.workers()
        with descriptors_left(0, program.process.pid):  # it fails at the socket pair
            program.process.send_signal(signal.SIGHUP)
            await program.until(lambda: b"Too many open files; the present workers keep running" in program.said)
            assert program.workers() == old
            assert await asked(program.port) in old
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: len(program.workers()) == 2 and not program.workers() & old)
        assert await asked(program.port) in program.workers()


SERVING = """
import sys
from tests.http import supervised
from trioflow import http

if __name__ == "__main__":
    sys.executable = sys.argv[1]
    http.run(supervised.who, port=0, workers=2)
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
async def test_while_a_deployment_replaces_python_the_workers_continue(tmp_path: Path, number: signal.Signals) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "program.py").write_text(SERVING)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    async with running([str(tmp_path / "program.py"), str(python)], PYTHONPATH=path) as program:
        [victim, other] = program.workers()
        python.rename(tmp_path / "old")
        os.kill(program.process.pid if number == signal.SIGHUP else victim, number)
        await program.until(lambda: b"cannot be started: [Errno 2] No such file" in program.said)
        assert await asked(program.port) == other or number == signal.SIGHUP
        left = {victim, other} if number == signal.SIGHUP else {other}
        await program.until(lambda: program.workers() == left)  # and no process in which Python is just not found

        (tmp_path / "old").rename(python)
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: len(program.workers()) == 2 and not program.workers() & {victim, other})
        assert await asked(program.port) not in {victim, other}

    assert b"Traceback" not in program.said


@NEEDS_PROC
@pytest.mark.parametrize("count", [0, 1, 6])  # one for all; for a worker five for a moment, two for as long as it runs
async def test_if_the_first_workers_cannot_be_started_serve_raises(count: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with descriptors_left(count), pytest.raises(RuntimeError, match="worker process cannot be started"):
        await http.serve(supervised.who, listeners=[listener], workers=4)

    assert listener.fileno() == -1


SLOW = """
import sys, time
if any("_worker_main" in word for word in sys.orig_argv):
    time.sleep(600)
"""


def is_worker(process: int) -> bool:  # and not a short-lived process of `import trio`
    with suppress(OSError):  # it has ended since
        return b"_worker_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "words",
    [["-m", "tests.http.supervised", '{"grace": 600}'], ["-m", "trioflow", "serve", ".", "--workers=2", "--grace=600"]],
)
async def test_a_signal_is_handled_while_the_first_workers_start(
    tmp_path: Path, words: list[str], number: signal.Signals
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = [*words, "--port=0"] if "serve" in words else words
    async with running(words, is_silent=True, PYTHONPATH=path) as program:
        await program.until(lambda: any(map(is_worker, program.workers())))
        workers = program.workers()
        program.process.send_signal(number)
        assert await program.ended() == 0

    assert not any(map(called.is_there, workers))
    assert program.said == b""


async def test_a_signal_is_handled_while_workers_are_replaced(tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    async with running(["-m", "tests.http.supervised", '{"grace": 600}'], PYTHONPATH=path) as program:
        old = program.workers()
        (tmp_path / "sitecustomize.py").write_text(SLOW)
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: len(program.workers()) == 3)
        workers = program.workers()
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0

    assert old < workers
    assert not any(map(called.is_there, workers))


PROGRAM = """
import trio
from functools import partial
from trioflow import http
import answer

async def main():
    async with trio.open_nursery() as nursery:
        print(*await nursery.start(partial(http.serve, answer.handler, port=0, workers=2)), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""
ANSWER = "async def handler(request, response): await response.send(b'{}')\n"


async def test_new_workers_load_the_current_code_and_if_that_fails_the_old_ones_continue(tmp_path: Path) -> None:
    place = tmp_path / "answer.py"
    place.write_text(ANSWER.format("old"))
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    async with running([str(tmp_path / "program.py")], PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1") as program:
        old = program.workers()
        place.write_text("1 / 0")
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: b"the present workers keep running" in program.said)
        assert program.workers() == old
        assert (await exchanged(program.port, GET, half_close=False)).endswith(b"old")
        assert b"ZeroDivisionError" in program.said

        place.write_text(ANSWER.format("new"))
        program.process.send_signal(signal.SIGHUP)
        await program.until(lambda: len(program.workers()) == 2 and not program.workers() & old)
        assert (await exchanged(program.port, GET, half_close=False)).endswith(b"new")


async def test_workers_that_cannot_start_end_the_server(tmp_path: Path) -> None:
    (tmp_path / "answer.py").write_text(ANSWER + "import sys\nif 'answer' not in str(sys.argv): ...\n")
    (tmp_path / "program.py").write_text(
        "import sys, os\nif __name__ == '__mp_main__': sys.exit(4)\n"
        + PROGRAM.replace("import answer", "class answer:\n    async def handler(request, response): pass\n")
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    async with running([str(tmp_path / "program.py")], PYTHONPATH=path) as program:
        assert await program.ended() == 1
        await program.until(lambda: b"ended with exit status 4 before it was ready" in program.said)


async def test_several_processes_serve_over_tls_and_write_a_log(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "all.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    options = json.dumps({"ssl_context": "context", "log": "told"})
    async with running(["-m", "tests.http.supervised", options], CERTIFICATE=str(pem)) as program:
        assert program.line.startswith("https://127.0.0.1:")
        stream = await trio.open_ssl_over_tcp_stream("localhost", program.port, ssl_context=client)
        status, _, body = await Client(stream).ask("GET", "/")
        assert (status, int(body) in program.workers()) == (200, True)
        await trio.aclose_forcefully(stream)
        await program.until(lambda: b"told 200\n" in program.printed)


async def test_several_processes_serve_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with supervising(unix=str(path)) as program:
        assert program.line == f"http+unix:{path}"
        stream = await trio.open_unix_socket(path)
        assert int((await Client(stream).ask("GET", "/"))[2]) in program.workers()
        await trio.aclose_forcefully(stream)
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0

    assert not path.is_socket()


async def test_a_cancelled_supervisor_ends_its_workers() -> None:
    before = set(called.children())
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, supervised.who, port=0, workers=2))
        workers = set(called.children()) - before
        assert await asked(int(url.rpartition(":")[2])) in workers
        nursery.cancel_scope.cancel()

    assert len(workers) == 2
    assert not any(map(called.is_there, workers))


async def test_a_supervisor_cancelled_while_its_workers_start_leaves_none() -> None:
    before = set(called.children())
    with trio.move_on_after(0.1):
        await http.serve(supervised.who, port=0, workers=2)

    assert set(called.children()) <= before


async def test_outside_the_main_thread_the_supervisor_handles_no_signals() -> None:
    async def main() -> int:
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(http.serve, supervised.who, port=0, workers=2))
            answer = await asked(int(url.rpartition(":")[2]))
            nursery.cancel_scope.cancel()
        return answer

    assert await trio.to_thread.run_sync(trio.run, main) != os.getpid()


# The command.


async def test_the_command_serves_a_directory_from_several_processes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with running(["-m", "trioflow", "serve", str(tmp_path), "--port", "0", "--workers", "2"]) as program:
        assert len(program.workers()) == 2
        async with connected(program.port) as stream:
            assert (await Client(stream).ask("GET", "/a.txt"))[2] == b"hello"
        await program.until(lambda: b'"GET /a.txt" 200 5' in program.printed)
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0

    assert program.said == b""


@pytest.mark.parametrize("number", ["0", "-1", "nan", "x"])
async def test_the_command_refuses_an_invalid_timeout(number: str) -> None:
    async with running(["-m", "trioflow", "serve", ".", f"--worker-timeout={number}"]) as program:
        assert await program.ended() == 2
        await program.until(lambda: b"argument --worker-timeout: " in program.said)


@pytest.mark.parametrize("number", ["0", "x", "2000"])
async def test_the_command_refuses_an_invalid_number_of_workers(number: str) -> None:
    async with running(["-m", "trioflow", "serve", ".", "--workers", number]) as program:
        assert await program.ended() == 2
        await program.until(lambda: b"expected from 1 to 1024 workers" in program.said)


# One client that uses every connection.


def slow_reader(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sock


async def test_with_default_limits_slow_readers_at_one_address_do_not_keep_others_out(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 30)
    (tmp_path / "small").write_bytes(b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    readers: list[socket.socket] = []
    words = ["-m", "trioflow", "serve", str(tmp_path), "--port=0", "--workers=2", "--log=off"]
    try:
        async with running(words) as program:
            readers.extend([await trio.to_thread.run_sync(slow_reader, program.port) for _ in range(1200)])
            await program.until(
                lambda: re.search(rb"refused a connection from 127.0.0.1, which already has 50\d", program.said)
            )
            for _ in range(20):
                sock = trio.socket.socket()
                await sock.bind(("127.0.0.2", 0))
                await sock.connect(("127.0.0.1", program.port))
                with trio.fail_after(60):
                    async with trio.SocketStream(sock) as stream:
                        assert (await Client(stream).ask("GET", "/small"))[2] == b"small"
    finally:
        for reader in readers:
            reader.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def opened(port: int, path: Path | str) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return stream


async def test_connections_of_one_address_are_counted_across_workers_until_they_or_their_worker_end(
    tmp_path: Path,
) -> None:
    async with supervising(handler="wait", workers=3, per_client=6, half_closed=0.1) as program:
        busy: dict[int, list[trio.SocketStream]] = {}
        for number in range(6):
            stream = await opened(program.port, tmp_path / f"{number}")
            await program.until((tmp_path / f"{number}.pid").exists)
            busy.setdefault(int((tmp_path / f"{number}.pid").read_text()), []).append(stream)
        assert [await read_nothing(program.port) for _ in range(6)] == [b""] * 6

        victim, lost = busy.popitem()
        os.kill(victim, signal.SIGKILL)
        with trio.fail_after(60):
            while not await read_nothing(program.port):  # until another worker starts
                pass
        for stream in [*lost, *(stream for streams in busy.values() for stream in streams)]:
            await trio.aclose_forcefully(stream)
        with trio.fail_after(60):
            while not await read_nothing(program.port):  # until the workers have noticed
                pass

    assert b"refused a connection from 127.0.0.1, which already has 6 in use" in program.said


# What is refused.


async def within(request: http.Request, response: http.Response) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("handler", "options", "complaint"),
    [
        (lambda request, response: within(request, response), {}, "a handler that can be sent .* but <lambda> cannot"),
        (within, {"log": lambda access: None}, "a log that can be sent to another process"),
        (within, {"ssl_context": ssl.create_default_context()}, "must be a function that makes an SSLContext"),
        (within, {"ssl_context": lambda: None}, "an ssl_context that can be sent to another process"),
        (within, {"counters": http.Counters()}, "counters count in one process"),
        (within, {"workers": 0}, "workers must be at least 1, got 0"),
        (within, {"worker_timeout": 0}, "worker_timeout must be above 0, got 0"),
        (within, {"worker_timeout": "30"}, "worker_timeout must be a number, got '30'"),
        (within, {"workers": True}, "workers must be an int, got True"),
    ],
)
async def test_R1_impossible_arguments_are_refused_at_once(
    handler: Any, options: dict[str, Any], complaint: str
) -> None:
    before = set(called.children())

    with pytest.raises((TypeError, ValueError), match=complaint):
        await http.serve(handler, **{"workers": 2, "port": 0, **options})

    assert set(called.children()) <= before
