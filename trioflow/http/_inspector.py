"""A web page that shows this program's runs live: numbers sent as server-sent events and drawn in the browser.

Rule 1: it works at any path, because its links are relative and only the last segment of a request's path is read.
Rule 2: the page costs nothing while it is not open, and its own runs are not shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import trio

from trioflow._core.channel import SendChannel
from trioflow._core.checks import check_count, check_positive, check_type
from trioflow._core.pipeline import pipeline
from trioflow._core.streams import Readable
from trioflow.http._events import events
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler
from trioflow.http.file_server.types import content_type
from trioflow.operators.inspecting import Inspector
from trioflow.operators.selecting import take_until

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = Path(__file__).parent / "inspector_page"


def inspector(of: Inspector, *, most: int = 100, every: float = 0.5) -> Handler:
    """Return a handler for a page that shows, live, the runs that an inspector sees. It works at any path.

    The page is at `path/`. `path/runs.json` is what it shows, as JSON: `{"runs": [...], "running": 3}`, each run as
    `RunSnapshot.as_dict()` returns it. `path/events` sends the same object repeatedly while a client reads it.

    The page shows counts and the names of stages and functions, never a stage's arguments or items. It also shows the
    message and notes of each failure, which may quote them. Anyone who can open the page sees all this, so serve it only
    to the people who run the program, on a loopback address or after a login:

        async with tf.inspect() as inspector:
            await http.serve(http.inspector(inspector), host="127.0.0.1", port=0)

    Args:
        of: The inspector that `tf.inspect` yields.
        most: How many runs in progress to show, the oldest first.
        every: Seconds between two events.

    Raises:
        TypeError: `of` is not an `Inspector`, `most` is not an int, or `every` is not a number.
        ValueError: `most` is below 1, or `every` is not above 0.
    """
    check_type("inspector: `of`", of, Inspector, "an Inspector, which tf.inspect() yields")
    check_count("most", most, 1)
    check_positive("every", every)
    pages = {path.name: path for path in PAGE.iterdir()}

    def told() -> str:
        return json.dumps({"runs": [run.as_dict() for run in of.runs(most)], "running": of.running})

    async def tell(output: SendChannel[str]) -> None:
        while True:
            await output.send(told())
            await trio.sleep(every)

    async def show(request: Request, response: Response) -> None:
        name = request.path.rpartition("/")[2]
        response.headers["cache-control"] = "no-store"
        response.headers["content-security-policy"] = POLICY
        if request.method not in ("GET", "HEAD"):
            response.status, response.headers["allow"] = 405, "GET, HEAD"
        elif name == "runs.json":
            response.headers["content-type"] = "application/json"
            await response.send(told().encode())
        elif name == "events":
            response.headers["content-type"] = "text/event-stream"
            with of._hidden():
                looks = Readable(tell).pipe(take_until(request.stopping)).pipe(events())
                await pipeline(looks, response, capacity=1)  # so that a slow client does not see old numbers
        elif name in pages or not name:
            path = pages[name or "index.html"]
            response.headers["content-type"] = content_type(path.name)
            await response.send(path.read_bytes())
        else:  # without the slash, the page's relative links would lead to the folder above it
            response.status, response.headers["location"] = 308, f"{name}/"

    return show
