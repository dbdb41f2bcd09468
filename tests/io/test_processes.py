"""Real processes: in the middle of a pipeline, at its ends, and as a stream; none is ever left behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests import called
from trioflow.io import processes


def sh(script: str, **options: Any) -> tf.Duplex[bytes, bytes]:
    return tf.process(["sh", "-c", script], **options)


def python(script: str) -> tf.Duplex[bytes, bytes]:
    return tf.process([sys.executable, "-I", "-S", "-c", script])


def children() -> set[int]:
    """Return the process ids of our children, including zombies."""
    return set(called.children_and_zombies())


def living_in(group: int) -> list[str]:
    """Return the processes of a group that have not ended, without zombies that their new parent has not reaped yet."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(str(status))
    return found


@pytest.fixture(autouse=True)
def _leaves_no_child() -> Iterator[None]:
    if not Path("/proc/self/task").is_dir():
        yield
        return
    before = children()
    yield
    assert children() - before == set()


@pytest.fixture(autouse=True)
def _does_not_kill_what_a_busy_machine_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 60)


@tf.readable
async def endless(chunk: bytes = b"x" * 65536) -> AsyncIterator[bytes]:
    while True:
        yield chunk


@tf.readable
async def quiet(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    await trio.sleep_forever()


async def test_a_process_in_the_middle_reads_the_items_and_emits_its_output() -> None:
    assert await tf.pipeline([b"pear\n", b"fig\n"], tf.process(["sort"]), tf.join()) == b"fig\npear\n"


async def test_three_commands_in_one_pipeline() -> None:
    got = await tf.pipeline(
        [b"%d\n" % n for n in range(10_000)],
        tf.process(["grep", "7"]),
        tf.process(["sort", "-rn"]),
        tf.process(["head", "-n", "2"]),
        tf.join(),
    )

    assert got == b"9997\n9987\n"


async def test_ten_megabytes_pass_through_cat_unchanged() -> None:
    data = [bytes([n]) * 50_000 for n in range(200)]

    got = await tf.pipeline(data, tf.process(["cat"]), tf.join())

    assert got == b"".join(data)


async def test_R4_a_process_value_can_run_again_and_twice_at_the_same_time() -> None:
    upper = tf.process(["tr", "a-z", "A-Z"])
    got = []

    async def run(word: bytes) -> None:
        got.append(await tf.pipeline([word], upper, upper, tf.join()))

    async with trio.open_nursery() as nursery:
        for word in (b"one", b"two"):
            nursery.start_soon(run, word)

    assert sorted(got) == [b"ONE", b"TWO"]


async def test_a_process_at_the_start_of_a_pipeline_has_an_empty_input() -> None:
    with trio.fail_after(60):
        assert await tf.process(["cat"]).pipe(tf.join()) == b""
        assert await tf.pipeline(sh("echo hello"), tf.join()) == b"hello\n"


async def test_R2_a_process_at_the_end_of_a_pipeline_is_waited_for(tmp_path: Path) -> None:
    target = tmp_path / "written"

    written = await tf.pipeline([b"x" * 100_000] * 20, sh(f"tee {shlex.quote(str(target))}"))

    assert written == 2_000_000
    assert target.stat().st_size == 2_000_000


async def test_a_failing_process_at_the_end_of_a_pipeline_fails_it() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await tf.pipeline([b"x"], sh("cat >/dev/null; exit 4"))

    assert caught.value.returncode == 4


async def test_R4_the_directions_share_one_process_and_run_once() -> None:
    async with tf.process(["tr", "a-z", "A-Z"]) as upper:
        assert await tf.pipeline([b"abc"], upper.writable) == 3
        assert await upper.readable.pipe(tf.join()) == b"ABC"
        with pytest.raises(trio.ClosedResourceError, match=r"the readable of process\(.*\) can only run once"):
            await upper.readable.pipe(tf.join())

    echoing = tf.process(["cat"])
    got = []

    async def read() -> None:
        got.append(await echoing.readable.pipe(tf.join()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await tf.pipeline([b"x" * 1000] * 1000, echoing.writable)
    assert len(got[0]) == 1_000_000


async def test_a_process_that_exits_with_0_may_leave_its_input_unread_and_ends_everything_upstream() -> None:
    with trio.fail_after(60):
        assert await endless().pipe(tf.process(["head", "-c", "5"])).pipe(tf.join()) == b"xxxxx"
        assert await quiet(b"x").pipe(sh("echo ready")).pipe(tf.join()) == b"ready\n"
        assert await tf.pipeline(endless(), tf.process(["head", "-c", "5"])) >= 0
        assert await quiet(b"12345").pipe(tf.process(["head", "-c", "5"]).writable) == 5


async def test_R9_a_take_after_a_process_ends_the_process() -> None:
    with trio.fail_after(60):
        assert await tf.process(["yes"]).pipe(tf.take(1)).pipe(tf.count()) == 1
        assert await sh("echo ready; exec sleep 1000").pipe(tf.take(1)).pipe(tf.join()) == b"ready\n"
        assert await quiet().pipe(sh("echo ready; exec sleep 1000")).pipe(tf.take(1)).pipe(tf.join()) == b"ready\n"


@pytest.mark.parametrize("is_writing_first", [False, True])
async def test_R9_a_reader_that_stops_early_ends_a_writer_in_a_run_of_its_own(is_writing_first: bool) -> None:
    echoing = tf.process(["cat"])
    written = []

    async def write() -> None:
        written.append(await endless().pipe(echoing.writable))

    async with trio.open_nursery() as nursery:
        if is_writing_first:
            nursery.start_soon(write)
        with trio.fail_after(60):
            if is_writing_first:
                assert await echoing.readable.pipe(tf.take(1)).pipe(tf.count()) == 1
            else:
                assert await echoing.readable.pipe(tf.take(0)).pipe(tf.count()) == 0
                nursery.start_soon(write)

    assert len(written) == 1


async def test_R11_the_error_of_a_failed_process_comes_after_its_output_and_names_its_stage() -> None:
    got: list[bytes] = []
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await tf.pipeline([b"x"], tf.tap(bytes.upper), sh("echo some; exit 3"), tf.for_each(got.append))

    assert got == [b"some\n"]
    assert caught.value.returncode == 3
    assert caught.value.cmd == ["sh", "-c", "echo some; exit 3"]
    assert caught.value.stderr is None
    assert caught.value.__notes__ == ["in stage 3 of 4: process(['sh', '-c', 'echo some; exit 3'])"]


async def test_R11_a_process_that_fails_while_it_is_written_to_is_one_failure() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        await endless().pipe(sh("exit 1")).pipe(tf.drain())
    with pytest.raises(subprocess.CalledProcessError):
        await quiet(b"x").pipe(sh("exit 1")).pipe(tf.drain())
    with pytest.raises(subprocess.CalledProcessError):
        await endless().pipe(sh("exit 1", stderr=subprocess.PIPE)).pipe(tf.drain())


async def test_a_process_ended_by_a_signal_has_failed() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await sh("kill -KILL $$").pipe(tf.drain())

    assert caught.value.returncode == -signal.SIGKILL


async def test_the_exception_carries_the_last_part_of_captured_error_output() -> None:
    flood = "import sys; sys.stderr.write('x' * 1_000_000 + 'the reason\\n'); sys.exit(1)"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await tf.process([sys.executable, "-I", "-S", "-c", flood], stderr=subprocess.PIPE).pipe(tf.drain())

    assert len(caught.value.stderr) == processes.KEPT
    assert caught.value.stderr.endswith(b"xxthe reason\n")
    assert caught.value.__notes__[0].startswith("its stderr: xxx")
    assert caught.value.__notes__[0].endswith("xxthe reason")
    assert len(caught.value.__notes__[0]) < 1100


async def test_error_output_is_captured_with_separate_directions_and_with_a_stream() -> None:
    flood = "head -c 200000 /dev/zero >&2; cat; echo reason >&2; exit 1"
    failing = sh(flood, stderr=subprocess.PIPE)
    with trio.fail_after(60):
        await tf.pipeline([b"x"], failing.writable)
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await failing.readable.pipe(tf.drain())
        assert caught.value.stderr.endswith(b"\0reason\n")

        async with sh(flood, stderr=subprocess.PIPE).open() as stream:
            await stream.send_all(b"x")
            await stream.send_eof()
            assert await stream.receive_some() == b"x"
            for _ in range(2):
                with pytest.raises(subprocess.CalledProcessError) as caught:
                    await stream.receive_some()
                assert caught.value.stderr.endswith(b"\0reason\n")

    assert await tf.pipeline([b"x"], sh("cat; echo warning >&2", stderr=subprocess.PIPE), tf.join()) == b"x"


async def test_with_captured_error_output_an_exception_leaves_the_block_unchanged() -> None:
    async def leave() -> None:
        async with tf.process(["cat"], stderr=subprocess.PIPE).open():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave()


async def test_error_output_that_arrives_with_the_end_of_a_process_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def have_no_time(self: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(processes._ProcessStream, "keep_errors", have_no_time)

    with pytest.raises(subprocess.CalledProcessError) as caught:
        await sh("echo reason >&2; exit 1", stderr=subprocess.PIPE).pipe(tf.drain())

    assert caught.value.stderr == b"reason\n"


async def test_error_output_that_another_process_holds_open_is_not_waited_for() -> None:
    with trio.fail_after(60):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await sh("sleep 30 >/dev/null & echo $! >&2; exit 1", stderr=subprocess.PIPE).pipe(tf.drain())
        os.kill(int(caught.value.stderr), signal.SIGKILL)  # the process that it left behind, which is not our child


async def test_error_output_can_join_the_output_or_go_to_a_file(tmp_path: Path) -> None:
    assert await sh("echo oops >&2", stderr=subprocess.STDOUT).pipe(tf.join()) == b"oops\n"
    assert await sh("echo oops >&2", stderr=subprocess.DEVNULL).pipe(tf.join()) == b""
    async with await trio.open_file(tmp_path / "errors", "wb") as errors:
        await sh("echo oops >&2", stderr=errors.wrapped).pipe(tf.drain())
    assert (tmp_path / "errors").read_bytes() == b"oops\n"


async def test_it_runs_in_its_directory_and_environment(tmp_path: Path) -> None:
    got = await sh("pwd; echo $NAME", cwd=tmp_path, env={"NAME": "value", "PATH": os.environ["PATH"]}).pipe(tf.join())

    assert got == b"%s\nvalue\n" % os.fsencode(await trio.Path(tmp_path).resolve())


@pytest.mark.parametrize("options", [{}, {"cwd": "/nowhere/at/all"}])
async def test_a_missing_program_or_directory_is_an_error_before_anything_is_received(options: dict[str, str]) -> None:
    taken = False

    @tf.readable
    async def source(output: tf.SendChannel[bytes]) -> None:
        nonlocal taken
        await output.send(b"x" * 4096 * 1000)
        await output.send(b"x")  # waits until the first is received
        taken = True

    program = "cat" if options else "no-such-program-anywhere"
    with pytest.raises(FileNotFoundError) as caught:
        await source().pipe(tf.process([program], **options)).pipe(tf.join())

    assert not taken
    assert caught.value.__notes__[0].startswith(f"in stage 2 of 3: process(['{program}'])")


async def test_a_program_without_permission_to_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    with pytest.raises(PermissionError):
        await tf.process([tmp_path / "data"]).pipe(tf.drain())


async def test_R16_when_cancelled_a_process_gets_sigterm(tmp_path: Path) -> None:
    said = tmp_path / "said"
    async with trio.open_nursery() as nursery:
        script = f"trap 'echo asked >{shlex.quote(str(said))}; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
        ready = trio.Event()

        async def run() -> None:
            await sh(script).pipe(tf.for_each(lambda _: ready.set()))

        nursery.start_soon(run)
        await ready.wait()
        nursery.cancel_scope.cancel()

    assert said.read_text() == "asked\n"


@tf.readable
async def cut_short(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise Cut


class Cut(Exception):
    """The exception with which a test cuts off a process."""


Program: TypeAlias = tf.Duplex[bytes, bytes]


async def fail_before(program: Program) -> None:
    await cut_short(b"a\n").pipe(program).pipe(tf.drain())


async def fail_before_it_as_a_sink(program: Program) -> None:
    await cut_short(b"a\n").pipe(program.writable)


async def fail_after(program: Program) -> None:
    await quiet(b"a\n").pipe(program).pipe(tf.map(lambda chunk: 1 // 0)).pipe(tf.drain())


async def fail_while_the_input_is_open(program: Program) -> None:
    async with program.writable.open() as send:
        await send.send(b"a\n")
        raise Cut


async def fail_while_it_is_a_stream(program: Program) -> None:
    async with program.open() as stream:
        await stream.send_all(b"a\n")
        await stream.receive_some()
        raise Cut


async def fail_beside_both_directions(program: Program) -> None:
    async with program, trio.open_nursery() as nursery:
        nursery.start_soon(quiet(b"a\n").pipe, program.writable)
        await program.readable.pipe(tf.map(lambda chunk: 1 // 0)).pipe(tf.drain())


async def stop_reading_early(program: Program) -> None:
    await quiet(b"a\n").pipe(program).pipe(tf.take(1)).pipe(tf.drain())
    raise Cut


async def cancel(program: Program) -> None:
    async with trio.open_nursery() as nursery:

        async def stop(_: bytes) -> None:
            nursery.cancel_scope.cancel()

        nursery.start_soon(quiet(b"a\n").pipe(program).pipe, tf.for_each(stop))
    raise Cut


async def close_while_it_is_written_to(program: Program) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quiet(b"a\n").pipe, program.writable)
        async with program.readable.open() as receive:
            await receive.receive()
            await program.aclose()
    raise Cut


CUTS = [
    fail_before,
    fail_before_it_as_a_sink,
    fail_after,
    fail_while_the_input_is_open,
    fail_while_it_is_a_stream,
    fail_beside_both_directions,
    stop_reading_early,
    cancel,
    close_while_it_is_written_to,
]
READS_ALL = "while read line; do echo got; done; : >"  # and then writes a file, as if its input were complete


async def cut_off(cut: Callable[[Program], Awaitable[None]], program: Program) -> None:
    with trio.fail_after(60):
        try:
            await cut(program)
        except* (Cut, ZeroDivisionError, trio.ClosedResourceError):
            pass
        else:
            pytest.fail("it was not cut off")


@pytest.mark.parametrize("cut", CUTS)
async def test_R13_a_process_that_is_cancelled_sees_no_end_of_its_input(
    cut: Callable[[Program], Awaitable[None]], tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(cut_off, cut, sh(READS_ALL + shlex.quote(str(tmp_path / f"committed{number}"))))

    assert os.listdir(tmp_path) == []


async def test_R13_a_process_that_exits_late_sees_no_end_of_its_input_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.05)
    await cut_off(stop_reading_early, sh("trap '' TERM; " + READS_ALL + shlex.quote(str(tmp_path / "committed"))))

    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("cut", [fail_before, fail_after, fail_while_it_is_a_stream, cancel])
async def test_R13_the_children_of_a_process_with_its_own_group_end_with_it(
    cut: Callable[[Program], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 1)  # a zombie that init does not reap counts as one of its group
    groups = []

    async def run(number: int) -> None:
        committed, group = tmp_path / f"committed{number}", tmp_path / f"group{number}"
        script = f"echo $$ >{shlex.quote(str(group))}; cat | ({READS_ALL} {shlex.quote(str(committed))})"
        await cut_off(cut, sh(script, own_group=True))
        if group.exists():  # it may have ended before it wrote its process id
            groups.append(group.read_text())

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(run, number)

    assert not [name for name in os.listdir(tmp_path) if name.startswith("committed")]
    with trio.fail_after(60):
        while any(
            living_in(int(group)) for group in groups
        ):  # SIGKILL arrives, but nobody waits until it has taken effect
            await trio.lowlevel.checkpoint()


async def test_R16_processes_of_the_group_that_do_not_end_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    got = []

    async def run(text: bytes) -> None:
        got.append(int(text))
        raise Cut

    with trio.fail_after(60), pytest.raises(Cut):
        await sh("(trap '' TERM; echo $$; exec sleep 1000) & wait", own_group=True).pipe(tf.for_each(run))

    with trio.fail_after(60):
        while living_in(got[0]):
            await trio.lowlevel.checkpoint()


async def test_R16_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.05)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\n"
    with trio.fail_after(60):
        got = await quiet(b"x").pipe(python(stubborn + "time.sleep(1000)")).pipe(tf.take(1)).pipe(tf.join())

    assert got == b"ready\n"


async def test_R16_closing_first_lets_a_process_end_by_itself(tmp_path: Path) -> None:
    target = tmp_path / "written"
    async with sh(f"cat; echo ended >{shlex.quote(str(target))}") as duplex:
        await tf.pipeline([b"x"], duplex.writable)
    assert target.read_text() == "ended\n"

    async with sh(f"cat >/dev/null; echo again >{shlex.quote(str(target))}").open() as stream:
        await stream.send_all(b"x")
    assert target.read_text() == "again\n"


async def test_R16_closing_ends_a_process_that_ignores_the_end_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.05)
    with trio.fail_after(60):
        async with tf.process(["sleep", "1000"]).open() as stream:
            await stream.send_all(b"x")
        await stream.aclose()
        async with tf.process(["sleep", "1000"]) as duplex:
            async with duplex.writable.open() as send:
                await send.send(b"x")
            await duplex.aclose()


async def test_R16_closing_a_process_wakes_its_writer_and_its_reader() -> None:
    async with sh("exec sleep 1000", stderr=subprocess.PIPE).open() as stream, trio.open_nursery() as nursery:

        async def write() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(bytes(10**6))

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        nursery.start_soon(write)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(stream)


async def test_writing_to_a_process_that_has_exited_raises_an_error_that_says_so() -> None:
    async with sh("exec true").open() as stream:
        assert await stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError, match="the process has exited"):
            await stream.send_all(b"x")
    async with sh("exec 0<&-; echo ready; exec sleep 1000").open() as stream:
        assert await stream.receive_some() == b"ready\n"
        with pytest.raises(trio.BrokenResourceError, match="the process no longer reads its input"):
            await stream.send_all(b"x")
        await trio.aclose_forcefully(stream)


async def test_R16_a_failure_of_another_stage_ends_a_process_at_once() -> None:
    @tf.readable
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with trio.fail_after(60), pytest.raises(ZeroDivisionError) as caught:
        await failing().pipe(tf.process(["sleep", "1000"])).pipe(tf.drain())

    assert caught.value.__notes__ == ["in stage 1 of 3: failing()"]


@settings(max_examples=12)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4), st.sampled_from(["whole", "apart", "reader first", "stream"])
)
@example([1], "reader first")
def test_R16_cancelling_at_any_moment_leaves_no_process(delays: list[int], use: str) -> None:
    async def use_as_stream() -> None:
        async with tf.process(["cat"], stderr=subprocess.PIPE).open() as stream:
            while True:
                await stream.send_all(b"x")
                await stream.receive_some()

    async def client(delay: int) -> None:
        async with trio.open_nursery() as nursery:
            if use == "whole":
                nursery.start_soon(tf.pipeline, endless(), tf.process(["cat"]), tf.process(["cat"]), tf.drain())
            elif use in ("apart", "reader first"):
                echoing = tf.process(["cat"], stderr=subprocess.PIPE)
                runs = [(endless(), echoing.writable), (echoing.readable, tf.drain())]
                for run in runs if use == "apart" else reversed(runs):
                    nursery.start_soon(tf.pipeline, *run)
            else:
                nursery.start_soon(use_as_stream)
            for _ in range(delay * 10):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for delay in delays:
                nursery.start_soon(client, delay)

    before = children()
    trio.run(main)
    assert children() == before


async def test_a_hundred_processes_leave_nothing_behind() -> None:
    before = children()
    for _ in range(4):
        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(tf.pipeline, [b"x"], tf.process(["cat"]), tf.drain())

    assert children() <= before


async def test_an_endless_process_is_held_back_while_nobody_reads_it() -> None:
    async with tf.process(["yes"]).readable.open(capacity=1) as receive:
        assert (await receive.receive()).startswith(b"y\ny\n")
        await wait_all_tasks_blocked()
        assert receive.statistics().used <= 64


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tf.process("ls -l"), TypeError, r"process expects a list of words, got 'ls -l'; write \['sort'"),
        (lambda: tf.process([]), ValueError, "process expects a program to run, got an empty list"),
        (lambda: tf.process(["head", 5]), TypeError, "each word of argv must be a str, bytes or a path, got 5"),
        (lambda: tf.process(3), TypeError, "process expects a list of words, got 3"),
        (lambda: tf.process(["ls"], cwd=3), TypeError, "cwd must be a path, got 3"),
        (lambda: tf.process(["ls"], env=["A=1"]), TypeError, r"env must be a mapping, got \['A=1'\]"),
        (lambda: tf.process(["ls"], own_group=1), TypeError, "own_group must be a bool, got 1"),
        (lambda: tf.process(["ls"], stderr="file"), TypeError, "stderr must be None, a constant of subprocess"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(
    make: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make()
