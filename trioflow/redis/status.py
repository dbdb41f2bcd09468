"""Questions about a stream in Redis that neither send nor receive."""

from __future__ import annotations

from typing import NamedTuple

from trioflow._core.checks import check_count
from trioflow.redis.client import ANSWER_TIMEOUT, open_clients
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
        OSError: there is no server at `url`, or it refuses the connection.
        trio.BrokenResourceError: the server does not answer.
    """
    async with open_clients(StreamOptions(url, name, ANSWER_TIMEOUT), 1) as [client]:
        entries, delivered, dead, senders, closed, ended = await client.run_until_done(STATUS)
        return Status(entries, delivered, dead, senders, bool(closed), bool(ended))


async def dead_letters(url: str, name: str, *, limit: int = 1000) -> list[DeadLetter]:
    """Return the oldest dead letters of the stream `name`, at most `limit`. They stay where they are.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection.
        trio.BrokenResourceError: the server does not answer.
    """
    check_count("limit", limit, 1)
    async with open_clients(StreamOptions(url, name, ANSWER_TIMEOUT), 1) as [client]:
        found = await client.call("XRANGE", client.keys.dead, "-", "+", "COUNT", limit)
    letters = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found)
    return [
        DeadLetter(letter[b"v"], letter[b"id"].decode(), int(letter[b"tries"]), letter[b"owner"].decode())
        for letter in letters
    ]
