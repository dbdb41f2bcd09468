"""What all tests share: external programs that some need, and a check for what each leaves open."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

DESCRIPTORS = Path("/proc/self/fd")
TESTS = Path(__file__).parent
SLOW = ("browser", "redis")  # directories whose tests all start Chromium or a Redis server


# No claim about the speed of the machine: by default, an example must take 0.2 seconds, and 50 must be found in 5 seconds.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Make programs that tests start behave as on a user's terminal, also in CI or a background job."""
    os.environ.pop("PYTHONUNBUFFERED", None)  # with it, a missing flush would go unnoticed
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C may be ignored, and programs would inherit that


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Exclude everything that exists by now from garbage collection, which would visit thousands of tests each time."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `@pytest.mark.needs("curl")` if curl is missing, but fail in CI, which must have it."""
    for marker in item.iter_markers("needs"):
        missing = [command for command in marker.args if shutil.which(command) is None]
        if not missing:
            continue
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("TRIOFLOW_REQUIRE_ALL"):
            pytest.fail(f"{reason}, and TRIOFLOW_REQUIRE_ALL forbids skipping", pytrace=False)
        pytest.skip(reason)


def open_descriptors() -> dict[str, str]:
    """Return the number of each open file descriptor, and what it is open on."""
    found = {}
    for entry in DESCRIPTORS.iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # the descriptor that listed the directory
            continue
    return found


def _open_files() -> set[tuple[int, int, int]]:
    """Return each open file descriptor, with the device and inode of its file, which is faster than its name."""
    found = set()
    for number in map(int, os.listdir(DESCRIPTORS)):
        try:
            status = os.fstat(number)
        except OSError:  # the descriptor that listed the directory
            continue
        found.add((number, status.st_dev, status.st_ino))
    return found


@pytest.fixture(autouse=True)
def _leaves_no_descriptor_open() -> Iterator[None]:
    """Fail a test that leaves a file, a socket or a pipe open, which every rule about closing forbids."""
    if not DESCRIPTORS.is_dir():  # only Linux lists them
        yield
        return
    before = _open_files()
    yield
    if _open_files() - before:
        # A descriptor held only by garbage causes a ResourceWarning, which already is an error.
        gc.collect()
        left = [os.readlink(DESCRIPTORS / str(number)) for number, *_ in _open_files() - before]
        assert not left, f"left open: {', '.join(left)}"
