"""Where peers are installed and data lies: one directory outside the project, kept from run to run.

Rule 1: it is `$TRIOFLOW_BENCH_ENV`, else `trioflow-benchmarks` in the user's cache directory.
Rule 2: nothing is installed unless requested (`--install`), and nothing into our own environment.
Rule 3: data are the same on every machine: a size gives the bytes.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.util
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import venv
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks._harness import Need

# httptools and uvloop come with uvicorn's `standard`, because it is measured as it is deployed.
PACKAGES = ["aiostream", "anyio", "aiofiles", "aiohttp", "starlette", "uvicorn[standard]", "hypercorn[trio]", "redis"]
_BLOCK = 1 << 20


def home() -> Path:
    """Return the directory, which is created when something is put there."""
    given = os.environ.get("TRIOFLOW_BENCH_ENV")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trioflow-benchmarks"


def peers_python() -> Path:
    """Return the interpreter of the peers' environment, which may not exist."""
    return home() / "python" / "bin" / "python"


def install() -> None:
    """Create or update the peers' environment, with the version of Trio that ours uses."""
    print(f"installing {', '.join(PACKAGES)} into {home() / 'python'}", flush=True)
    if not peers_python().exists():
        venv.create(home() / "python", with_pip=True, symlinks=True)
    pip = [str(peers_python()), "-m", "pip", "install", "--quiet", "--upgrade"]
    subprocess.run([*pip, *PACKAGES, f"trio=={metadata.version('trio')}"], check=True)
    installed.cache_clear()


@functools.cache
def installed() -> dict[str, str]:
    """Return the version of each package in the peers' environment."""
    if not peers_python().exists():
        return {}
    code = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in distributions()}))"
    )
    listed = subprocess.run([str(peers_python()), "-c", code], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(listed.stdout)
    return versions


def package(name: str) -> Need:
    """Need a Python package in the peers' environment."""
    return Need(name, lambda: name in installed(), "python -m tests.benchmarks --install")


def command(name: str, debian: str) -> Need:
    """Need a program on the machine."""
    return Need(name, lambda: find(name) is not None, f"Debian's package {debian}")


def find(name: str) -> str | None:
    """Return where a program is, also in /usr/sbin, where Debian puts servers and which is not on every user's path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


NODE = command("node", "nodejs")
NGINX = command("nginx", "nginx")
WRK = command("wrk", "wrk")


def extra(name: str) -> Need:
    """Need the package that an extra of ours installs, in our own environment."""
    return Need(name, lambda: importlib.util.find_spec(name) is not None, f"pip install 'trioflow[{name}]'")


def trioflow(module: str) -> Need:
    """Need a part of trioflow that this checkout may not have."""
    return Need(f"trioflow.{module}", lambda: _has(module), "not in this checkout")


@functools.cache
def _has(module: str) -> bool:
    code = f"import trioflow.{module}"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@contextmanager
def scratch() -> Iterator[Path]:
    """Return a directory on the same file system as the data, removed afterwards."""
    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=home()) as path:
        yield Path(path)


@functools.cache
def random_file(size: int) -> Path:
    """Return a file of bytes that do not compress; each MiB begins and ends with its number."""

    def blocks() -> Iterator[bytes]:
        block = random.Random(size).randbytes(_BLOCK)
        for i in range(-(-size // _BLOCK)):
            number = i.to_bytes(8, "big")
            yield (number + block[8:-8] + number)[: size - i * _BLOCK]

    return _made(f"random-{size}.bin", size, blocks())


@functools.cache
def log_file(size: int) -> Path:
    """Return a file of a web server's log lines, every tenth with status 500; it compresses as well as real logs."""

    def lines() -> Iterator[bytes]:
        source = random.Random(size)
        methods, paths = ["GET", "GET", "GET", "POST"], ["/", "/index.html", "/api/items", "/img/café.png", "/login"]
        block = []
        for _ in range(20_000):  # longer than gzip's window
            client = ".".join(str(source.randrange(1, 255)) for _ in range(4))
            status = source.choice([200] * 7 + [304, 404, 500])
            path = f"{source.choice(paths)}?id={source.randrange(10**9)}"
            block.append(
                f'{client} "{source.choice(methods)} {path}" {status} {source.randrange(10**6)} "-" "curl/8"\n'
            )
        text, left = "".join(block).encode(), size
        while left > 0:
            piece = text if left >= len(text) else text[: left - 1].rpartition(b"\n")[0].ljust(left - 1, b"~") + b"\n"
            yield piece
            left -= len(piece)

    return _made(f"log-{size}.txt", size, lines())


def _records(size: int) -> list[dict[str, object]]:
    """Return records as a web server might log them, enough to be repeated: two of ten requests fail."""
    source = random.Random(size)
    records: list[dict[str, object]] = []
    for number in range(20_000):
        path = source.choice(["/", "/index.html", "/api/items", "/img/café.png", "/login"])
        records.append(
            {
                "time": f"2026-03-01T12:{number // 60 % 60:02}:{number % 60:02}.{source.randrange(1000):03}Z",
                "client": ".".join(str(source.randrange(1, 255)) for _ in range(4)),
                "method": source.choice(["GET", "GET", "GET", "POST"]),
                "path": f"{path}?id={source.randrange(10**9)}",
                "status": source.choice([200] * 7 + [304, 404, 500]),
                "bytes": source.randrange(10**6),
                "seconds": source.randrange(10**6) / 10**6,
                "user": {"id": source.randrange(10**5), "name": source.choice(["ann", "bob", "zoë"])},
                "tags": ["a", "b"],
            }
        )
    return records


def _whole_lines(text: bytes, size: int) -> Iterator[bytes]:
    """Repeat lines up to `size` at most; the last line is complete."""
    for _ in range(size // len(text)):
        yield text
    yield text[: text.rfind(b"\n", 0, size % len(text)) + 1]


@functools.cache
def json_file(size: int) -> Path:
    """Return a file of JSON lines, of at most `size` bytes: a server's log with nested values."""
    text = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in _records(size))
    return _made(f"records-{size}.jsonl", None, _whole_lines(text.encode(), size))


@functools.cache
def csv_file(size: int) -> Path:
    """Return a file of CSV, of at most `size` bytes: the same log as a table, where every tenth row has a quoted cell."""
    made = io.StringIO()
    rows = csv.writer(made, lineterminator="\n")
    for number, record in enumerate(_records(size)):
        user: Any = record.pop("user")
        record["tags"] = "a, b" if number % 10 == 0 else "a"
        rows.writerow([*record.values(), *user.values()])
    header = b"time,client,method,path,status,bytes,seconds,tags,user,name\n"
    lines = _whole_lines(made.getvalue().encode(), size - len(header))
    return _made(f"table-{size}.csv", None, itertools.chain([header], lines))


@functools.cache
def gzip_file(size: int) -> Path:
    """Return the log file of `size`, as one gzip member."""
    packed = zlib.compress(log_file(size).read_bytes(), level=6, wbits=31)
    return _made(f"log-{size}.txt.gz", len(packed), iter([packed]))


def size_in(path: Path) -> int:
    """Return the size with which a file of ours was requested, which is in its name."""
    return int(path.name.partition("-")[2].partition(".")[0])


def _made(name: str, size: int | None, chunks: Iterator[bytes]) -> Path:
    """Return a file of our directory, made unless it exists with the right size, and read once for the page cache."""
    path = home() / "data" / name
    if not path.exists() or path.stat().st_size != (size or path.stat().st_size):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            for chunk in chunks:
                file.write(chunk)
        Path(file.name).replace(path)
    digest(path)
    return path


def make_ready(source: Path, target: Path) -> None:
    """Flush pending writes to the disk, and copy `source` to `target` once, which is then removed.

    So the page cache has the source, and the machine has the memory for a copy: on a virtual machine that has to request
    it from its host, one copy in five took eight times as long.
    """
    os.sync()
    shutil.copyfile(source, target)
    target.unlink()


@functools.cache
def digest(path: Path) -> str:
    """Return a hash of a file of ours."""
    return fresh_digest(path)


def fresh_digest(path: Path) -> str:
    """Return a hash of the current content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
