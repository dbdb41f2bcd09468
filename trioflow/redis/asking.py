"""Queries from outside a stream, each over a connection of its own, for up to five seconds."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trioflow.redis.answers import Later, Refused
from trioflow.redis.client import ANSWER_TIMEOUT, Client, open_clients
from trioflow.redis.options import StreamOptions


async def ask(
    url: str, name: str, ssl_context: ssl.SSLContext | None, question: Callable[[Client], Awaitable[Any]]
) -> Any:
    """Return the answer to a query that can be repeated.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the query.
        StreamLost: the server has lost the stream.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    options = StreamOptions(url, name, ssl_context=ssl_context)
    reason = "it does not respond"
    with trio.move_on_after(ANSWER_TIMEOUT):
        async with open_clients(options, 1) as [client]:
            while True:
                try:
                    return await question(client)
                except Later as exc:
                    reason = str(exc)
                    await trio.sleep(exc.pause)
                except Refused as exc:
                    raise OSError(f"the Redis server at {options.address} refuses: {exc}") from None
    raise trio.BrokenResourceError(
        f"no answer from the Redis server at {options.address} for {ANSWER_TIMEOUT:g} s: {reason}"
    )
