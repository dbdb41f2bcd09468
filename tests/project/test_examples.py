"""Each program in examples/ shows one idea, runs, and prints what its last lines say.

Those lines are comments, from `# Prints:` on. `...` stands for anything. If the first of them is a `$ command`, each
command prints the lines below it; it runs the example itself, or is a client of it. In the second case the example is
a server at port 8000, which gets a free port here, prints its address and is ended by Ctrl-C.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.snippets import PATIENCE, ask, difference, matches, serving, with_port

pytestmark = pytest.mark.slow  # each test runs a program

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))

# What a newcomer looks for, and the file that shows it.
CASES = {
    "a readable pushed by hand: push, push, end": "pushed_by_hand",
    "a writable that prints what it is given, fed from stdin": "show_stdin",
    "writing a file piece by piece and ending it": "write_piece_by_piece",
    "reading a file chunk by chunk": "read_chunk_by_chunk",
    "copying with pipe": "copy_file",
    "an HTTP server that reads the whole file": "whole_file_server",
    "an HTTP server that pipes it": "file_server",
    "request and response as duplex: body as text, an answer, 400 on error": "request_and_response",
    "an image in delayed chunks": "delayed_image",
    "an MP3 server": "mp3_server",
    "a transform of one's own": "own_transform",
    "a duplex echo: a.pipe(b).pipe(a)": "echo_server",
    "a subprocess in the middle of a pipeline": "process_in_the_middle",
    "gzip on the fly": "gzip_on_the_fly",
    "bounded parallel requests": "parallel_requests",
    "fan-out to two files": "fan_out",
    "a time limit around a pipeline": "time_limit",
    "a test of one's own stage": "prove_own_stage",
    "a packed log into packed JSON lines, with a progress bar": "log_etl",
    "fifty downloads, eight at once, retried": "many_downloads",
    "an upload with its SHA-256": "upload_once",
    "server-sent events at three speeds": "three_speeds",
    "a chat over TCP": "chat",
    "a WebSocket echo": "websocket",
    "fan-out with a slow branch": "slow_branch",
    "sensors in windows of time": "sensor_windows",
    "a media server": "media_server",
    "a bottleneck, seen from outside": "bottleneck",
}
LONGEST = 40  # lines: one idea
WHOLE_PROGRAMS = {
    "bottleneck",
    "chat",
    "crawl",
    "download",
    "log_etl",
    "many_downloads",
    "media_server",
    "plan_capacity",
    "sensors",
    "three_speeds",
    "top_ten",
    "upload_once",
    "websocket",
}  # they combine several ideas, and may be longer


def printed_by(source: str) -> str:
    """Return the block after `# Prints:`, without its comment signs."""
    block = re.search(r"^# Prints:\n((?:^#.*\n?)*)\Z", source, re.MULTILINE)
    assert block, "the last lines of an example are `# Prints:` and what it prints, as comments"
    return re.sub(r"^# ?", "", block[1], flags=re.MULTILINE)


def run_example(path: Path, cwd: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "an example opens with its idea, as a docstring"
    want = printed_by(source)
    if f" examples/{path.name}" in want:
        (cwd / "examples").mkdir(exist_ok=True)
        (cwd / "examples" / path.name).write_text(source, encoding="utf-8")
        ask(want, cwd=cwd)
        return
    if want.startswith("$ "):
        port = free_port()
        with serving(with_port(source, port), name=path.name, port=port, cwd=cwd) as log:
            ask(with_port(want, port), cwd=cwd)
            assert f"http://127.0.0.1:{port}" in log.read_text(), "an example that serves says where"
        return
    for _ in ("at first", "again, beside the files that it left"):
        # -X dev shows what was never closed or awaited, on stderr.
        done = subprocess.run(
            [sys.executable, "-X", "dev", path],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert matches(done.stdout, want), difference(path.name, done.stdout, want)
        if not any(cwd.iterdir()):
            return


def marks_of(path: Path) -> list[pytest.MarkDecorator]:
    return [pytest.mark.needs("curl")] if "# $ curl" in path.read_text(encoding="utf-8") else []


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name, marks=marks_of(path)) for path in EXAMPLES])
def test_an_example_prints_what_its_last_lines_say(path: Path, tmp_path: Path) -> None:
    run_example(path, tmp_path)


def test_an_example_that_prints_something_else_is_caught(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text('"""Idea."""\nprint("one\\ntwo")\n\n# Prints:\n# one\n# two\n')
    run_example(example, tmp_path)

    for source, complaint in [
        ('"""Idea."""\nprint("one")\n# Prints:\n# two\n', "but it says"),
        ('"""Idea."""\nprint("one")\n', "last lines"),
        ('print("one")\n# Prints:\n# one\n', "opens with its idea"),
        ('"""Idea."""\nopen(__file__)\n# Prints:\n', "ResourceWarning"),
        ('"""Idea."""\nraise ValueError("no")\n# Prints:\n', "ValueError: no"),
    ]:
        example.write_text(source)
        with pytest.raises(AssertionError, match=complaint):
            run_example(example, tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_example(case: str) -> None:
    assert ROOT / "examples" / f"{CASES[case]}.py" in EXAMPLES


def ideas_of(path: Path) -> tuple[str, str]:
    """Return the two lines on top of an example: its idea, and what Node calls it."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    assert len(lines) == 3, f"{path.name} opens with its idea, an empty line, and `Node: ...`"
    assert not lines[1]
    assert lines[2].startswith("Node: ")
    return lines[0], lines[2].removeprefix("Node: ")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_an_example_is_short_and_has_a_line_in_the_index(path: Path) -> None:
    idea, node = ideas_of(path)
    length = len(path.read_text(encoding="utf-8").splitlines())

    assert length <= LONGEST or path.stem in WHOLE_PROGRAMS
    row = f"| [{path.name}]({path.name}) | {idea.rstrip('.')} | {node.rstrip('.')} |"
    assert row in (ROOT / "examples" / "README.md").read_text(encoding="utf-8").splitlines()


def test_an_example_that_reads_its_input_is_run_by_its_command(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text('"""Idea."""\nprint(input())\n\n# Prints:\n# $ echo one | python examples/example.py\n# two\n')

    with pytest.raises(AssertionError, match="but it says"):
        run_example(example, tmp_path)


@pytest.mark.needs("curl")
def test_a_server_that_leaves_something_open_is_caught(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(
        """'Idea.'
from http.server import HTTPServer, SimpleHTTPRequestHandler
print("http://127.0.0.1:8000/")
HTTPServer(("127.0.0.1", 8000), SimpleHTTPRequestHandler).serve_forever()

# Prints:
# $ curl -s -o page http://127.0.0.1:8000/
"""
    )

    with pytest.raises(AssertionError, match="left something behind"):
        run_example(example, tmp_path)
