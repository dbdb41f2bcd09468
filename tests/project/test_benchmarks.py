"""The benchmarks' harness: turns, ratios, and that nothing wrong, missing or crashed passes for a number.

These tests do not measure speed: `python -m tests.benchmarks` does.
"""

from __future__ import annotations

import json
import os
import select
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import _page, _place, _programs, _report
from tests.benchmarks.__main__ import WORKS, among, chosen, main
from tests.benchmarks._harness import Failed, Need, Peer, Row, Sample, Scale, Work, expect, is_met, measure, ratio
from tests.benchmarks._plot import svg
from tests.benchmarks.items import expected, timed

pytestmark = pytest.mark.slow  # they run programs against the clock

SCALE = Scale(10, 0.0)
ABSENT = Need("ghost", lambda: False, "Debian's package ghost")


def work(*peers: Peer, is_cost: bool = False) -> Work:
    return Work("toy", "a toy", "items/s", 10, 1, peers, is_cost)


def giving(*figures: float) -> Peer:
    """Make a peer that measures the given figures in order, and the same by CPU time."""
    left = list(figures)

    def measured(scale: Scale) -> Sample:
        figure = left.pop(0)
        return Sample(figure, figure * 2, 1.0, 0.5)

    return Peer(f"giving {figures}", measured)


def failing(scale: Scale) -> Sample:
    raise Failed("it has crashed")


@pytest.fixture
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for this test, without cached values of another."""

    def forget() -> None:
        for cached in (_place.random_file, _place.log_file, _place.gzip_file, _place.digest, _place.installed):
            cached.cache_clear()

    monkeypatch.setenv("TRIOFLOW_BENCH_ENV", str(tmp_path))
    forget()
    yield tmp_path
    forget()


def test_peers_are_measured_in_turns() -> None:
    order: list[str] = []

    def noting(name: str) -> Peer:
        def measured(scale: Scale) -> Sample:
            order.append(name)
            return Sample.rate(1, 1, 1)

        return Peer(name, measured)

    measure(work(*map(noting, "ABC")), SCALE, 3)

    assert "".join(order) == "ABCABCABC"


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    # The machine was three times slower in the second round, which does not change the ratio.
    ours, theirs = measure(work(giving(30, 10, 60), giving(15, 5, 20)), SCALE, 3)

    assert ratio(ours, theirs) == 2
    assert ratio(ours, theirs, "per_cpu") == 2
    assert ours.median("figure") == 30
    assert ours.spread == pytest.approx(50 / 30)


def test_a_missing_peer_is_named_in_table_json_and_plot_and_is_never_run() -> None:
    absent = Peer("Ghost streams", failing, [ABSENT], 2.0)
    toy = work(giving(1), absent)

    rows = measure(toy, SCALE, 1)

    assert rows[1].samples == []
    text = "\n".join(_report.table(toy, rows))
    assert "Ghost streams: missing: ghost (Debian's package ghost)" in text
    assert _report.as_json(toy, SCALE, rows)["rows"][1] == {
        "peer": "Ghost streams",
        "is_limit": False,
        "missing": "ghost (Debian's package ghost)",
    }
    assert "Ghost streams" in svg([(toy, rows)])
    assert "missing" in svg([(toy, rows)])


def test_a_failed_peer_is_reported_and_the_others_continue() -> None:
    toy = work(giving(4, 4), Peer("broken", failing), giving(2, 2))

    ours, broken, other = rows = measure(toy, SCALE, 2)

    assert broken.failed == "it has crashed"
    assert ratio(ours, broken) is None
    assert ratio(ours, other) == 2
    assert "broken: FAILED: it has crashed" in "\n".join(_report.table(toy, rows))


def test_a_program_that_fails_once_has_no_figure_at_all() -> None:
    samples = [Sample.rate(1, 1, 1)]

    def later(scale: Scale) -> Sample:
        if not samples:
            raise Failed("wrong in the second round")
        return samples.pop()

    (row,) = measure(work(Peer("late", later)), SCALE, 3)

    assert row.samples == []
    assert row.failed == "wrong in the second round"


@pytest.mark.parametrize(
    ("is_cost", "reached", "met"), [(False, 2.5, True), (False, 2.4, False), (True, 1.2, False), (True, 1.0, True)]
)
def test_a_target_is_a_lower_bound_and_for_a_cost_an_upper_one(is_cost: bool, reached: float, met: bool) -> None:
    toy = work(giving(1), is_cost=is_cost)
    target = 1.0 if is_cost else 2.5

    assert is_met(toy, reached, target) is met
    assert is_met(toy, reached, None) is None
    assert is_met(toy, None, target) is None


def test_the_table_shows_which_targets_were_met_and_missed() -> None:
    near, far = (Peer(str(i), lambda scale: Sample.rate(2, 1, 1), target=i) for i in (2, 9))
    toy = work(Peer("ours", lambda scale: Sample.rate(6, 1, 1)), near, far)

    lines = list(_report.table(toy, measure(toy, SCALE, 1)))

    assert "≥ 2 met" in lines[3]
    assert "≥ 9 missed" in lines[4]


def test_samples_count_what_was_done_by_wall_and_by_cpu_time() -> None:
    assert Sample.rate(100, wall=2, cpu=4) == Sample(50, 25, 2, 4)
    assert Sample.rate(100, wall=2, cpu=0).per_cpu is None
    assert Sample.cost(10, wall=5, cpu=2) == Sample(0.5, 0.2, 0.5, 0.2)
    assert Row(giving()).median("figure") is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2_310_000, "items/s", "2.31 M items/s"),
        (0.0000184, "s", "18.4 µs"),
        (3 * 1024 + 512, "B", "3.5 KiB"),
        (2_310_000_000, "B/s", "2.31 GB/s"),
        (0.5, "items/s", "0.50 items/s"),
        (0, "s", "0.00 ns"),
        (123, "", "123"),
        (None, "s", "-"),
    ],
)
def test_numbers_are_shown_at_three_digits(value: float | None, unit: str, text: str) -> None:
    assert _report.shown(value, unit) == text


def test_expect_names_the_result_and_the_expected_value() -> None:
    expect("the sum", 3, 3)
    with pytest.raises(Failed, match="the sum is 4, not 3"):
        expect("the sum", 4, 3)


def program(tmp_path: Path, code: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_a_program_with_a_wrong_result_fails_however_fast(tmp_path: Path) -> None:
    told = {"runs": 1, "wall": 1e-9, "cpu": 1e-9, "result": [6, 41]}
    wrong = program(tmp_path, f"print({json.dumps(told)!r})")

    with pytest.raises(Failed, match="the result is"):
        timed(lambda: [sys.executable], str(wrong))(SCALE)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit('no such thing')", "ended with 1: no such thing"),
        ("print('fast!')", "printed no JSON object"),
        ("", "printed no JSON object"),
    ],
)
def test_a_program_that_crashes_or_prints_nothing_fails(tmp_path: Path, code: str, why: str) -> None:
    with pytest.raises(Failed, match=f"program.py {why}"):
        _programs.run([sys.executable, program(tmp_path, code)])


def test_a_program_that_takes_too_long_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    endless = program(
        tmp_path,
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[1] + '.part').write_text(str(child.pid))\n"
        "pathlib.Path(sys.argv[1] + '.part').rename(sys.argv[1])\n"
        "time.sleep(600)\n",
    )
    for patience in (1, 10, 60):
        with pytest.raises(Failed, match=f"took more than {patience} s"):
            _programs.run([sys.executable, endless, tmp_path / "pid"], patience=patience)
        if (tmp_path / "pid").exists():  # a busy machine may need longer to start the other process
            break

    assert ends_within(60, int((tmp_path / "pid").read_text()))


def ends_within(seconds: float, process: int) -> bool:
    """Wait for a process that is not our child, and may still be ending."""
    try:
        fd = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


SERVER = """
import json, socket
held = bytearray(b"x" * (8 << 20))
sock = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
while True:
    sock.accept()[0].close()
"""


def test_a_servers_memory_and_time_are_read_and_it_ends_with_its_block(tmp_path: Path) -> None:
    with _programs.serving([sys.executable, program(tmp_path, SERVER)]) as server:
        assert server.private_bytes() > 8 << 20
        assert server.cpu_seconds() >= 0

    assert not Path(f"/proc/{server.session}").exists()


def test_a_server_that_dies_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(Failed, match="printed no port"),
        _programs.serving([sys.executable, program(tmp_path, "raise SystemExit('in use')")]),
    ):
        pytest.fail("it never served")


def test_data_have_the_requested_size_and_are_the_same_each_time(own_place: Path) -> None:
    for make in (_place.random_file, _place.log_file):
        first = make(3_000_017).read_bytes()
        assert len(first) == 3_000_017
        (own_place / "data" / make(3_000_017).name).unlink()
        make.cache_clear()
        assert make(3_000_017).read_bytes() == first
    log = _place.log_file(3_000_017).read_bytes()
    lines = log.splitlines(keepends=True)
    assert log.endswith(b"\n")
    assert 0.05 < sum(b" 500 " in line for line in lines) / len(lines) < 0.15
    assert _place.size_in(_place.gzip_file(3_000_017)) == 3_000_017


def test_without_an_environment_its_peers_are_listed_as_missing(
    own_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _place.installed() == {}

    assert main(["integers", "--list"]) == 0

    assert "- aiostream (missing: aiostream)" in capsys.readouterr().out
    assert _place.package("aiostream").how == "python -m tests.benchmarks --install"


def test_list_prints_every_work_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0

    out = capsys.readouterr().out
    for each in WORKS:
        assert each.name in out
        for peer in each.peers[1:]:
            assert peer.name in out


def test_a_name_selects_a_work_or_all_that_begin_with_it() -> None:
    assert [each.name for each in chosen(WORKS, ["run"])] == ["run-1", "run-3", "run-10"]
    assert [each.name for each in chosen(WORKS, ["log"])] == ["log"]
    assert [each.name for each in chosen(WORKS, ["gzip"])] == ["gzip", "gzip-isal"]
    assert chosen(WORKS, []) == WORKS
    assert [peer.name for peer in among(chosen(WORKS, ["copy"])[0], ["shutil"]).peers] == [
        "trioflow",
        "shutil.copyfile",
    ]


def test_an_unknown_name_is_refused_with_a_list_of_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["integer"]) == 2

    err = capsys.readouterr().err
    assert "no work is named 'integer'" in err
    assert "integers" in err


def test_names_are_unique_and_ours_is_first() -> None:
    assert len({each.name for each in WORKS}) == len(WORKS)
    for each in WORKS:
        names = [peer.name for peer in each.peers]
        assert names[0] == "trioflow"
        assert len(set(names)) == len(names)
        assert each.smoke <= each.size


def test_expected_gives_the_count_and_the_sum_of_the_results() -> None:
    assert expected(4) == [3, 2 + 4 + 8]


def test_a_smoke_run_of_real_programs_writes_a_table_json_and_a_plot(
    own_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, bars = own_place / "numbers.json", own_place / "bars.svg"
    options = ["--smoke", "--json", str(numbers), "--plot", str(bars), "--peer", "nested", "--peer", "aiostream"]

    assert main(["integers", "generators", *options]) == 0

    out = capsys.readouterr().out
    assert "smoke: too small to measure anything" in out
    assert "missed" not in out
    told = json.loads(numbers.read_text(encoding="utf-8"))
    assert told["is_smoke"] is True
    assert [each["name"] for each in told["works"]] == ["integers", "generators"]
    ours, limit, aiostream = told["works"][0]["rows"]
    assert ours["figure"] > 0
    assert len(ours["samples"]) == 1
    assert limit["target"] == 1.0
    assert "aiostream" in aiostream["missing"]
    assert ET.parse(bars).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_failure_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tests.benchmarks.__main__.WORKS", [work(Peer("trioflow", failing))])

    assert main(["toy", "--rounds", "2"]) == 1

    captured = capsys.readouterr()
    assert "FAILED: it has crashed" in captured.out
    assert "failed: toy: trioflow" in captured.err


def test_peers_and_data_are_kept_outside_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIOFLOW_BENCH_ENV", raising=False)

    assert not _place.home().is_relative_to(_programs.ROOT)


def test_a_page_gets_hits_misses_and_missing_peers_between_its_marks() -> None:
    toy = work(giving(30), Peer("slow", giving(10).measure, target=2), Peer("fast", giving(60).measure, target=1))
    absent = Peer("absent", failing, [ABSENT])
    rows = measure(Work("toy", "a toy", "items/s", 10, 1, [*toy.peers, absent]), SCALE, 1)
    page = f"Above.\n\n{_page.BEGIN}\nold\n{_page.END}\n\nBelow.\n"

    made = _page.filled(page, list(_page.lines(_report.machine(), 1, [(toy, rows)])))

    assert (made[:6], made[-7:-1]) == ("Above.", "Below.")
    assert "old" not in made
    assert "| **toy**: a toy | slow | 30.0 items/s | 10.0 items/s | 3.00 | 3.00 | ≥ 2: met |" in made
    assert "|  | fast | 30.0 items/s | 60.0 items/s | 0.50 | 0.50 | ≥ 1: **missed** |" in made
    assert "- toy, absent: missing: ghost (Debian's package ghost)" in made
    assert _page.filled(made, ["again"]).count(_page.BEGIN) == 1


def test_a_page_without_marks_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here")

    with pytest.raises(ValueError, match="the page wants a line"):
        main(["run-1", "--page", str(page)])
