"""Functions for other processes to call; they use only the standard library, so that a process starts quickly."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have its attributes set."""

    code: int


def freeze(code: int) -> NoReturn:
    raise Frozen(code)


class Refused(Exception):
    """An exception that cannot be created from its `args`."""

    def __init__(self, item: object, *, why: str) -> None:
        super().__init__(f"{item}: {why}")


def double(n: int) -> int:
    return n * 2


def same(item: Any) -> Any:
    return item


def even_only(n: int) -> int:
    if n % 2:
        raise ValueError(n)
    return n


def who(item: object) -> int:
    return os.getpid()


def meet(place: str) -> int:
    """Leave a trace in the directory `place`, and wait until a second process has left one."""
    Path(place, str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(place)) > 1)
    return os.getpid()


def die_at_three(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def die_once(place: str) -> str:
    """Create the file and die, unless it exists; an empty name does nothing."""
    if place and not Path(place).exists():
        Path(place).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return place


def leave(n: int) -> NoReturn:
    os._exit(7)


def refuse(n: int) -> NoReturn:
    raise Refused(n, why="not today")


def give_lock(n: int) -> object:
    return threading.Lock() if n == 1 else n


async def later(n: int) -> int:
    return n


def later_by_a_plain_function(n: int) -> object:
    return later(n)


def shout(word: str) -> str:
    print(word.upper())
    return word


def tell_and_sleep(place: str) -> None:
    """Write the process id to `place`, and continue for ten minutes."""
    part = Path(f"{place}.part")
    part.write_text(str(os.getpid()))
    part.rename(place)
    time.sleep(600)


def wait_for(place: str) -> str:
    """Write the process id to `place`, wait until a file of that name with `.go` exists, and leave a trace."""
    part = Path(f"{place}.part")
    part.write_text(str(os.getpid()))
    part.rename(place)
    while not Path(f"{place}.go").exists():
        time.sleep(0.01)
    Path(f"{place}.done").touch()
    return place


def take_long(place: str) -> str:
    """Wait as `wait_for` does, and not less than 0.02 seconds."""
    time.sleep(0.02)
    return wait_for(place)


def main_file(item: object) -> object:
    return sys.modules["__main__"].__file__


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


def children(process: int | None = None) -> list[int]:
    """Return the running processes that any thread of a process, by default this one, has started."""
    return [child for child in children_and_zombies(process) if is_there(child)]


def children_and_zombies(process: int | None = None) -> list[int]:
    """Return the processes that any thread of a process, by default this one, has started and nobody has reaped."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process or os.getpid()}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended since
                found += map(int, (task / "children").read_text().split())
    return found


def is_there(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
