"""Questions about a stream in Redis that neither send nor receive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import trio

from trioflow._core.checks import check_count
from trioflow.redis.client import ANSWER_TIMEOUT, Client, Later, Refused, open_clients
from trioflow.redis.options import StreamOptions
from trioflow.redis.scripts import STATUS


class Status(NamedTuple):
    """The counts of unacknowledged entries, of those delivered, of dead letters and of senders; then the end."""

    entries: int
    delivered: int
    dead: int
    senders: int
    is_closed: bool
    is_ended: bool


class DeadLetter(NamedTuple):
    """An entry that was delivered too often: its item, still encoded, its id, its tries, and its last receiver."""

    raw: bytes
    id: str
    tries: int
    receiver: str


async def status(url: str, name: str) -> Status:
    """Return what is in the stream `name` now.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    entries, delivered, dead, senders, closed, ended = await _ask(url, name, lambda client: client.run(STATUS))
    return Status(entries, delivered, dead, senders, bool(closed), bool(ended))


async def dead_letters(url: str, name: str, *, limit: int = 1000) -> list[DeadLetter]:
    """Return the oldest dead letters of the stream `name`, at most `limit`. They stay where they are.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    check_count("limit", limit, 1)
    found = await _ask(url, name, lambda client: client.call("XRANGE", client.keys.dead, "-", "+", "COUNT", limit))
    letters = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found)
    return [
        DeadLetter(letter[b"v"], letter[b"id"].decode(), int(letter[b"tries"]), letter[b"owner"].decode())
        for letter in letters
    ]


async def _ask(url: str, name: str, question: Callable[[Client], Awaitable[Any]]) -> Any:
    """Return the answer to a question that can be asked again."""
    options = StreamOptions(url, name)
    reason = "it is silent"
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
