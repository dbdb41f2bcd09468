"""A program that serves from several processes: `python -m tests.http.supervised OPTIONS`, as JSON. It prints its URLs.

Tests choose a handler by name: they say which process answers, or wait for files.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

from trioflow import http


async def who(request: http.Request, response: http.Response) -> None:
    await response.send(str(os.getpid()).encode())


async def wait(request: http.Request, response: http.Response) -> None:
    """Answer `/` at once; for other paths, write the process id beside that file, and wait until the file exists."""
    if request.path != "/":
        part = f"{request.path}.part"
        Path(part).write_text(str(os.getpid()))  # noqa: ASYNC240 - a few bytes, in a test
        Path(part).rename(f"{request.path}.pid")  # noqa: ASYNC240
        while not os.path.exists(request.path):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await trio.sleep(0.01)
    await who(request, response)


async def block(request: http.Request, response: http.Response) -> None:
    """Block the whole process, as a handler should not."""
    Path(request.path).write_text(str(os.getpid()))  # noqa: ASYNC240
    time.sleep(600)  # noqa: ASYNC251


async def leave(request: http.Request, response: http.Response) -> None:
    os._exit(3)


def context() -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(os.environ["CERTIFICATE"])
    return made


def told(access: http.Access) -> None:
    print("told", access.status, flush=True)


async def main(options: dict[str, Any]) -> None:
    options = {name: globals()[value] if name in NAMED else value for name, value in options.items()}
    defaults = {"grace": 5, "per_client": 500, "half_closed": 60}  # a busy machine needs longer than a second to answer
    limits = http.Limits(**{name: options.pop(name, default) for name, default in defaults.items()})
    handler = options.pop("handler", who)
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(
            partial(http.serve, handler, port=0, limits=limits, **({"workers": 2} | options))  # type: ignore[arg-type]
        )
        print(*urls, flush=True)
    print("returned", flush=True)


NAMED = ("handler", "ssl_context", "log")

if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
