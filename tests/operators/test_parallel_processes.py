"""Calls in processes: in order and bounded; a killed process fails one item, and nothing is left running."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests import called
from tests.consumers import CONSUMERS, Consumer, Sink, Source

pytestmark = pytest.mark.slow  # each run starts processes

NUMBERS = range(9)
DOUBLED = [n * 2 for n in NUMBERS]


async def appears(place: Path) -> int:
    """Wait for a file, and return the number in it."""
    await trio.to_thread.run_sync(called.wait_until, place.exists)
    return int(await trio.Path(place).read_text())


async def ends(process: int) -> None:
    await trio.to_thread.run_sync(called.wait_until, lambda: not called.is_there(process))


@pytest.mark.parametrize("capacity", [1, 256])
async def test_items_that_fail_can_be_dropped_or_put_aside(capacity: int) -> None:
    made, letters = tf.map_in_processes(called.even_only, workers=1), Sink()

    dropped = await tf.pipeline(range(10), tf.on_item_error(made, "drop"), tf.collect(), capacity=capacity)
    others = await tf.pipeline(range(10), tf.on_item_error(made, letters.writable), tf.collect(), capacity=capacity)

    assert dropped == others == [0, 2, 4, 6, 8]
    assert [(item, type(failure)) for item, failure in letters.got] == [(n, ValueError) for n in (1, 3, 5, 7, 9)]


@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize("failing", ["drop", "put aside"])
async def test_failed_items_are_put_aside_with_every_consumer(failing: str, consume: Consumer) -> None:
    source, letters = Source(range(10)), Sink()
    made = tf.map_in_processes(called.even_only, workers=1)

    got = await consume(source.readable.pipe(tf.on_item_error(made, "drop" if failing == "drop" else letters.writable)))

    assert got == [0, 2, 4, 6, 8][: len(got)]
    assert len(got) == 5 or consume in CONSUMERS[2:]
    assert source.started == source.ended == 1


@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize("options", [{"ordered": False}, {"kill_on_cancel": False}])
async def test_the_operator_works_with_every_consumer(options: dict[str, Any], consume: Consumer) -> None:
    source = Source(NUMBERS)

    got = await consume(source.readable.pipe(tf.map_in_processes(called.double, workers=2, **options)))

    assert sorted(got) == DOUBLED[: len(got)] or "ordered" in options
    assert len(got) == len(DOUBLED) or consume in CONSUMERS[2:]
    assert source.started == source.ended == 1


@settings(max_examples=5)
@given(items=st.lists(st.integers(), max_size=700), capacity=st.sampled_from([1, 3, 256]))
def test_results_keep_the_order_of_the_items(items: list[int], capacity: int) -> None:
    got = trio.run(
        partial(tf.pipeline, items, tf.map_in_processes(called.double, workers=2), tf.collect(), capacity=capacity)
    )

    assert got == [n * 2 for n in items]


async def test_unordered_yields_every_result() -> None:
    got = await tf.pipeline(range(3000), tf.map_in_processes(called.double, workers=2, ordered=False), tf.collect())

    assert sorted(got) == [n * 2 for n in range(3000)]


async def test_R18_no_item_is_mistaken_for_the_end() -> None:
    items = [None, b"", "", 0, False]

    assert await tf.pipeline(items, tf.map_in_processes(called.same, workers=1), tf.collect()) == items


async def test_large_items_and_results_are_sent_whole() -> None:
    items = [os.urandom(3_000_000) for _ in range(3)]

    assert await tf.pipeline(items, tf.map_in_processes(called.same, workers=2), tf.collect()) == items


async def test_R4_one_value_can_run_twice_at_the_same_time() -> None:
    stage = tf.map_in_processes(called.double, workers=1)
    results: list[list[int]] = []

    async def run() -> None:
        results.append(await tf.pipeline(range(50), stage, tf.collect()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)

    assert results == [[n * 2 for n in range(50)]] * 2


async def test_R2_there_are_as_many_processes_as_workers_and_none_afterwards(tmp_path: Path) -> None:
    items = [str(tmp_path)] * 60

    got = await tf.pipeline(items, tf.map_in_processes(called.meet, workers=2), tf.collect())

    assert len(set(got)) == 2
    assert os.getpid() not in got
    assert not any(map(called.is_there, got))


async def test_R1_no_process_is_started_without_an_item() -> None:
    before = set(called.children())
    async with tf.empty().pipe(tf.map_in_processes(called.double)).open() as receive:
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()

    assert set(called.children()) <= before


async def test_quick_calls_are_batched_and_slow_ones_are_not(tmp_path: Path) -> None:
    places = [str(tmp_path / name) for name in "abcdef"]
    stage = tf.map_in_processes(called.take_long, workers=1)
    with trio.fail_after(60):
        async with tf.from_iterable(places).pipe(stage).open(capacity=9) as receive:
            for name, place in zip("abcdef", places, strict=True):
                await appears(tmp_path / name)
                (tmp_path / f"{name}.go").touch()
                assert await receive.receive() == place  # in a batch it would wait for the next call, which cannot end
    stage = tf.map_in_processes(called.double, workers=1)
    async with tf.from_iterable(range(20_000)).pipe(stage).open() as receive:
        quick = [len(batch) async for batch in receive.batches()]

    assert max(quick) == 256


# What fails.


async def test_a_failure_is_raised_with_its_traceback_and_names_its_stage() -> None:
    with pytest.raises(ValueError, match=r"^3") as caught:
        await tf.pipeline([2, 3], tf.map_in_processes(called.even_only, workers=1), tf.drain())

    there, where = caught.value.__notes__
    assert there.startswith("in a worker process:\nTraceback")
    assert 'called.py", line' in there
    assert "_worker_main.py" not in there
    assert where == "in stage 2 of 3: map_in_processes(even_only, workers=1)"


async def test_R11_an_exception_that_rejects_attributes_is_raised_itself() -> None:
    with pytest.raises(called.Frozen) as caught:
        await tf.from_iterable([403]).pipe(tf.map_in_processes(called.freeze, workers=1)).pipe(tf.drain())

    assert caught.value.code == 403
    assert caught.value.__notes__[0].startswith("in a worker process:\nTraceback")


async def test_an_exception_that_cannot_be_pickled_is_replaced_by_one_with_the_same_text() -> None:
    with pytest.raises(RuntimeError, match=r"^Refused: 1: not today") as caught:
        await tf.pipeline([1], tf.map_in_processes(called.refuse, workers=1), tf.drain())

    assert "called.Refused: 1: not today" in caught.value.__notes__[0]


async def test_R11_a_killed_process_is_the_failure_of_the_item_it_worked_on() -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await tf.pipeline(range(9), tf.map_in_processes(called.die_at_three, workers=1), tf.drain())

    assert str(caught.value) == "the worker process was killed by SIGKILL while it called die_at_three(3)"
    assert caught.value.__notes__ == ["in stage 2 of 3: map_in_processes(die_at_three, workers=1)"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_killed_process_costs_one_item_and_a_new_one_continues(workers: int) -> None:
    letters = Sink()
    stage = tf.map_in_processes(called.die_at_three, workers=workers)

    got = await tf.pipeline([*range(50), 3], tf.on_item_error(stage, letters.writable), tf.collect())

    assert got == [0, 1, 2, *range(4, 50)]
    assert [item for item, _ in letters.got] == [3, 3]
    assert {str(failure) for _, failure in letters.got} == {
        "the worker process was killed by SIGKILL while it called die_at_three(3)"
    }


async def test_an_item_whose_process_died_is_retried_on_request(tmp_path: Path) -> None:
    places = ["", str(tmp_path / "a"), "", str(tmp_path / "b")]
    stage = tf.map_in_processes(called.die_once, workers=1, retries=1)

    assert await tf.pipeline(places, stage, tf.collect()) == places


async def test_the_number_of_retries_is_limited() -> None:
    with pytest.raises(trio.BrokenResourceError, match="ended with exit status 7 while it called leave"):
        await tf.pipeline([1], tf.map_in_processes(called.leave, workers=1, retries=2), tf.drain())


async def test_killing_an_idle_process_loses_no_item() -> None:
    send, receive = tf.open_channel[int]()
    async with tf.from_iterable(receive).pipe(tf.map_in_processes(called.who, workers=1)).open() as processes:
        await send.send(1)
        first = await processes.receive()
        os.kill(first, signal.SIGKILL)
        await ends(first)
        await send.send(2)
        second = await processes.receive()
        send.close()

    assert first != second


@pytest.mark.parametrize(("items", "kept"), [([0, 1, 2], [0, 2]), ([1, 5], [5])])
async def test_a_result_that_cannot_be_pickled_is_a_failure_of_its_item(items: list[int], kept: list[int]) -> None:
    stage = tf.map_in_processes(called.give_lock, workers=1)

    with pytest.raises(TypeError, match="cannot pickle"):
        await tf.pipeline(items, stage, tf.collect())
    assert await tf.pipeline(items, tf.on_item_error(stage, "drop"), tf.collect()) == kept


async def test_an_item_that_cannot_be_pickled_is_a_failure_of_that_item() -> None:
    stage = tf.map_in_processes(called.same, workers=1)
    items = [*range(200), threading.Lock(), 1]

    with pytest.raises(TypeError, match="cannot pickle"):
        await tf.pipeline(items, stage, tf.collect())
    assert await tf.pipeline(items, tf.on_item_error(stage, "drop"), tf.collect()) == [*range(200), 1]


async def test_an_item_that_the_process_cannot_rebuild_is_a_failure_of_that_item() -> None:
    stage = tf.map_in_processes(called.same, workers=1)
    refused = called.Refused("a", why="b")
    items = [*range(200), refused, 1]
    failed: list[tuple[Any, Exception]] = []

    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'why'"):
        await tf.pipeline(items, stage, tf.drain())
    kept = tf.pipeline(items, tf.on_item_error(stage, tf.for_each(failed.append)), tf.collect())
    assert await kept == [*range(200), 1]
    assert [item for item, _ in failed] == [refused]


async def test_a_function_that_returns_a_coroutine_is_refused() -> None:
    with pytest.raises(TypeError, match="but later_by_a_plain_function returned a coroutine; use map_async"):
        await tf.pipeline([1], tf.map_in_processes(called.later_by_a_plain_function), tf.drain())


# What is cancelled.


async def test_R16_when_cancelled_it_kills_the_processes_of_calls_in_progress(tmp_path: Path) -> None:
    place = tmp_path / "number"
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            stage = tf.map_in_processes(called.tell_and_sleep, workers=1)
            nursery.start_soon(tf.pipeline, [str(place)], stage, tf.drain())
            process = await appears(place)
            nursery.cancel_scope.cancel()

    assert not called.is_there(process)


async def test_R9_a_reader_that_stops_early_does_not_wait_for_calls(tmp_path: Path) -> None:
    place = tmp_path / "number"
    with trio.fail_after(60):
        async with tf.from_iterable([str(place)]).pipe(tf.map_in_processes(called.tell_and_sleep, workers=1)).open():
            process = await appears(place)

    assert not called.is_there(process)


async def test_when_cancelled_it_waits_for_the_calls_in_progress_on_request(tmp_path: Path) -> None:
    places = [str(tmp_path / name) for name in "ab"]
    stage = tf.map_in_processes(called.wait_for, workers=1, kill_on_cancel=False)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tf.pipeline, places, stage, tf.drain())
            process = await appears(tmp_path / "a")
            nursery.cancel_scope.cancel()
            (tmp_path / "a.go").touch()

    assert (tmp_path / "a.done").exists()
    assert not (tmp_path / "b").exists()
    assert not called.is_there(process)


async def test_with_kill_on_cancel_false_a_killed_process_is_a_failure() -> None:
    stage = tf.map_in_processes(called.die_at_three, workers=1, kill_on_cancel=False)

    with pytest.raises(trio.BrokenResourceError, match=r"killed by SIGKILL while it called die_at_three\(3\)"):
        await tf.pipeline(range(9), stage, tf.drain())


SCRIPT = """
import sys, trio, trioflow as tf
from tests import called
stage = tf.map_in_processes(called.tell_and_sleep, workers=1)
trio.run(tf.pipeline, [sys.argv[1]], stage, tf.drain())
"""


def test_processes_end_when_their_program_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "number"
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(place)], cwd=Path(__file__).parents[2]) as program:
        called.wait_until(place.exists)
        process = int(place.read_text())
        assert called.is_there(process)
        program.kill()

    called.wait_until(lambda: not called.is_there(process))


# A program that goes on after Ctrl-C and after SIGHUP; it prints the process group of its worker.
GOES_ON = """
import os, signal, trio, trioflow as tf
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
[group] = trio.run(tf.pipeline, [0], tf.map_in_processes(os.getpgid, workers=1), tf.collect())
print(group)
"""
# Python imports this module at its start.
STARTS_SLOWLY = """
import os, sys, time
if "_worker_main.py" in str(sys.orig_argv):
    open("starting", "x").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


def test_a_signal_to_all_processes_of_a_terminal_spares_those_that_start(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STARTS_SLOWLY)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", GOES_ON],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        called.wait_until((tmp_path / "starting").exists)
        for number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(program.pid, number)
        (tmp_path / "go").touch()
        said, _ = program.communicate()

    assert said == f"{program.pid}\n"


# What is sent.

PROGRAM = """
import dataclasses, sys, trio, trioflow as tf

@dataclasses.dataclass
class Point:
    x: int

def shifted(point):
    return Point(point.x + 1)

class NotFound(Exception):
    pass

def fail(point):
    raise NotFound(point)

async def main():
    print(await tf.pipeline([Point(1)], tf.map_in_processes(shifted, workers=1), tf.collect()))
    try:
        await tf.pipeline([Point(2)], tf.map_in_processes(fail, workers=1), tf.drain())
    except NotFound as exc:
        print("told", exc)

"""


def ran(program: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, *(words or ["program.py"])]
    root = os.pathsep.join([str(Path(tf.__file__).parent.parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize("words", [["program.py"], ["-m", "program"]])
def test_functions_and_classes_defined_in_the_program_itself_can_be_sent(tmp_path: Path, words: list[str]) -> None:
    done = ran(PROGRAM + "if __name__ == '__main__':\n    trio.run(main)\n", tmp_path, *words)

    assert done.stdout == "[Point(x=2)]\ntold Point(x=2)\n", done.stderr
    assert done.returncode == 0


def test_a_program_that_runs_when_imported_gets_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    done = ran(PROGRAM + "trio.run(main)\n", tmp_path)

    assert done.returncode == 1
    assert "put the code that runs it below `if __name__ == '__main__':`" in done.stderr


def test_a_function_typed_at_a_prompt_is_refused(tmp_path: Path) -> None:
    done = ran("", tmp_path, "-c", "import trioflow as tf\ndef fn(n): return n\ntf.map_in_processes(fn)")

    assert done.stderr.splitlines()[-1] == (
        "TypeError: map_in_processes expects a function that another process can find, "
        "but fn was typed at a prompt: put it in a file"
    )


def test_output_printed_in_a_process_is_seen(tmp_path: Path) -> None:
    program = "from tests import called\nimport trio, trioflow as tf\n"
    program += "trio.run(tf.pipeline, ['a'], tf.map_in_processes(called.shout, workers=1), tf.drain())\n"

    assert ran(program, tmp_path).stdout == "A\n"


async def test_the_program_is_not_imported_unless_something_of_it_is_needed() -> None:
    [place] = await tf.pipeline([1], tf.map_in_processes(called.main_file, workers=1), tf.collect())

    assert Path(place).name == "_worker_main.py"


async def test_a_function_that_the_process_cannot_import_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "soon_gone.py").write_text("def fn(n): return n")
    monkeypatch.syspath_prepend(tmp_path)
    import soon_gone  # type: ignore[import-not-found]

    stage = tf.map_in_processes(soon_gone.fn, workers=1)
    (tmp_path / "soon_gone.py").write_text("")
    monkeypatch.delitem(sys.modules, "soon_gone")

    with pytest.raises(AttributeError, match="fn") as caught:
        await tf.pipeline([1], stage, tf.drain())
    assert caught.value.__notes__[0].startswith("in a worker process:")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: tf.map_in_processes(3), "map_in_processes expects a function, got 3"),
        (
            lambda: tf.map_in_processes(called.later),
            "expects a plain function, got the coroutine function later; use map_async",
        ),
        (
            lambda: tf.map_in_processes(lambda n: n),
            "expects a function that can be sent to another process, such as one defined at the top of a module, "
            "but <lambda> cannot",
        ),
        (lambda: tf.map_in_processes(partial(called.same, threading.Lock())), "but partial cannot: cannot pickle"),
        (lambda: tf.map_in_processes(len, workers=0), "workers must be at least 1, got 0"),
        (lambda: tf.map_in_processes(len, workers=2.0), "workers must be an int, got 2.0"),
        (lambda: tf.map_in_processes(len, retries=-1), "retries must be at least 0, got -1"),
    ],
)
def test_R1_wrong_arguments_are_refused_when_the_value_is_built(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


def test_by_default_there_are_as_many_processes_as_processors_also_on_a_system_that_does_not_bind_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)

    assert "workers=3" in repr(tf.map_in_processes(called.double))


async def test_R6_the_number_of_items_taken_is_bounded() -> None:
    numbers = Source(itertools.count())

    async with numbers.readable.pipe(tf.map_in_processes(called.double, workers=2)).open(capacity=1) as receive:
        assert await receive.receive() == 0
        await wait_all_tasks_blocked(0.05)  # the calls in progress return, and no others are begun
        sent = numbers.sent

    assert sent <= 2 * 2 + 6
