"""The program of a worker process: `python _worker_main.py SOCKET KIND PATIENCE [PAGE]`. `worker_process` starts it.

Rule 1: it imports only the standard library: importing trioflow takes 150 ms, and the function to call may not need it.
Rule 2: it never outlives its parent. At the end of the socket it exits by itself; if the parent has gone and it has not
    exited `PATIENCE` seconds later, even in the middle of a call, it is ended.
Rule 3: a terminal sends Ctrl-C and SIGHUP to the parent's whole process group, and the parent decides what follows. This
    program is started in a group of its own, and joins that one when it can pass over them.
Rule 4: the parent's program is imported as `__mp_main__`, and only if something in it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import mmap
import os
import pickle
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CoroutineType, ModuleType
from typing import Any, Final

HEADER: Final = struct.Struct("<Q")
# Slots of the page: the number, from 1 on, of the item being worked on; whether to stop before the next one.
CALLING, STOP = range(2)

is_loading_main = False


def packed(value: object) -> bytes:
    """Return a value as a message."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


def packed_failure(exc: BaseException) -> tuple[bytes, str]:
    """Return an exception, or a stand-in with the same text if it cannot be sent, and its traceback."""
    told = "".join(traceback.format_exception(exc))
    try:
        body = _packed_exception(exc)
        pickle.loads(body)  # fails if it cannot be rebuilt from its arguments
    except Exception:  # noqa: BLE001 - whatever was raised, it cannot be sent
        body = pickle.dumps(RuntimeError(f"{type(exc).__qualname__}: {exc}"))
    return body, told


class _Pickler(pickle.Pickler):
    """Pickles exceptions so that a frozen one, which does not let its attributes be set, can be rebuilt."""

    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, BaseException) or type(obj).__setstate__ is not BaseException.__setstate__:
            return NotImplemented
        made: Any = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return (_made_again, made) if len(made) == 3 and type(made[2]) is dict else NotImplemented


def _packed_exception(exc: BaseException) -> bytes:
    body = io.BytesIO()
    _Pickler(body, pickle.HIGHEST_PROTOCOL).dump(exc)
    return body.getvalue()


def _made_again(make: Callable[..., BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    exc = make(*args)
    exc.__dict__.update(state)
    return exc


_made_again.__module__ = "trioflow.io._worker_main"  # unpickling looks there; here the module may be `__main__`


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            _load_main()
        return super().find_class(module, name)


_main: tuple[str, str] | None = None


def _load_main() -> None:
    """Import the parent's program, except what is below `if __name__ == "__main__"`."""
    global _main, is_loading_main
    if _main is None:
        return
    (kind, place), _main = _main, None
    module = ModuleType("__mp_main__")
    is_loading_main = True
    try:
        run = runpy.run_module if kind == "module" else runpy.run_path
        module.__dict__.update(run(place, run_name="__mp_main__"))
    finally:
        is_loading_main = False
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _receive(sock: socket.socket) -> bytearray | None:
    """Read a message's body; return None at the end."""
    header = _exactly(sock, HEADER.size)
    return None if header is None else _exactly(sock, HEADER.unpack(header)[0])


def _exactly(sock: socket.socket, size: int) -> bytearray | None:
    body = bytearray(size)
    with memoryview(body) as left:
        while left:
            count = sock.recv_into(left)
            if not count:
                return None
            left = left[count:]
    return body


def _loads(body: bytearray) -> Any:
    return _Unpickler(io.BytesIO(body)).load()


def _watch(sock: socket.socket, patience: float) -> None:
    poll = select.poll()
    poll.register(sock, 0)  # with no events asked for, it reports only that the parent has gone
    poll.poll()
    time.sleep(patience)
    os._exit(1)


def _serve_calls(sock: socket.socket, fn: Callable[[Any], Any], page: memoryview, *, goes_on: bool) -> None:
    while (header := _exactly(sock, HEADER.size)) is not None:
        page[CALLING] = 1  # an item that kills the process while it is unpickled counts, too
        body = _exactly(sock, HEADER.unpack(header)[0])
        if body is None:
            return
        try:
            items = _loads(body)
        except BaseException as exc:  # noqa: BLE001 - the parent finds out which item it is
            sock.sendall(packed((0.0, None, {0: packed_failure(exc)})))
        else:
            sock.sendall(_call_each(fn, items, page, goes_on=goes_on))


def _call_each(fn: Callable[[Any], Any], items: list[Any], page: memoryview, *, goes_on: bool) -> bytes:
    began = time.perf_counter()
    results: list[Any] = []
    failures: dict[int, tuple[bytes, str]] = {}
    for number, item in enumerate(items, 1):
        if page[STOP]:
            break
        page[CALLING] = number
        try:
            results.append(fn(item))
            if isinstance(results[-1], CoroutineType):
                results[-1].close()
                raise TypeError(
                    "map_in_processes expects a plain function, "
                    f"but {getattr(fn, '__name__', fn)} returned a coroutine; use map_async() instead"
                )
        except BaseException as exc:  # noqa: BLE001 - the parent raises it
            own = exc.__traceback__
            failures[number - 1] = packed_failure(exc.with_traceback(own and own.tb_next))
            results[number - 1 :] = [None]
            if not goes_on:
                break
    spent = time.perf_counter() - began
    try:
        return packed((spent, results, failures))
    except Exception:  # noqa: BLE001 - a result that cannot be sent
        for index, result in enumerate(results):
            try:
                pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
            except Exception as exc:  # noqa: BLE001
                failures[index], results[index] = packed_failure(exc), None
        return packed((spent, results, failures))


def _pass_over(*_: object) -> None: ...


def _main_program() -> None:
    global _main
    number, kind, patience, *rest = sys.argv[1:]
    sys.modules["trioflow.io._worker_main"] = sys.modules["__main__"]  # importers read `is_loading_main` of this one
    sock = socket.socket(fileno=int(number))
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup; the programs that `target` starts inherit it
            signal.signal(signum, _pass_over)
    with contextlib.suppress(OSError):  # the parent has died
        os.setpgid(0, os.getpgid(os.getppid()))
    threading.Thread(target=_watch, args=(sock, float(patience)), daemon=True).start()
    start, target = _receive(sock), _receive(sock)
    if start is None or target is None:
        return
    sys.path, sys.argv, _main = pickle.loads(start)
    importlib.invalidate_caches()
    if kind == "run":
        _loads(target)(sock)
        return
    try:
        fn, goes_on = _loads(target)
    except BaseException as exc:  # noqa: BLE001 - reported to the parent
        sock.sendall(packed(packed_failure(exc)))
        return
    sock.sendall(packed(None))
    with memoryview(mmap.mmap(int(rest[0]), mmap.PAGESIZE)) as page:
        _serve_calls(sock, fn, page.cast("i"), goes_on=goes_on)


if __name__ == "__main__":
    _main_program()
