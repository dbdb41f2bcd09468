"""Server-sent events: a browser's EventSource follows a feed and resumes where it was disconnected.

Node: res.write("data: ..."), and the format by hand.
"""

from collections.abc import AsyncIterator

import trio

import trioflow as tf
from trioflow import http


@tf.readable
async def news(first: int) -> AsyncIterator[http.Event]:
    for number in range(first, 4):
        yield http.Event(f"item {number}", id=str(number))
        await trio.sleep(0.01)


async def handler(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/event-stream"
    response.headers["cache-control"] = "no-store"
    last = http.last_event_id(request)
    await news(int(last) + 1 if last and last.isdecimal() else 1).pipe(http.events()).pipe(response)


http.run(handler, port=8000)

# Prints:
# $ curl -sN http://127.0.0.1:8000/ -H "Last-Event-ID: 1"
# id: 2
# data: item 2
#
# id: 3
# data: item 3
#
