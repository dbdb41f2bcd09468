"""What is in a stream in Redis, asked from outside."""

from __future__ import annotations

from typing import NamedTuple

from trioflow._core.checks import check_count
from trioflow.redis.client import PATIENCE, Address, open_lines
from trioflow.redis.options import check_name
from trioflow.redis.scripts import STATUS, Keys
from trioflow.redis.sending import first_call


class Status(NamedTuple):
    """What is in a stream: entries that are unacknowledged, of these delivered, dead letters; senders; and its end."""

    entries: int
    delivered: int
    dead: int
    senders: int
    is_closed: bool
    is_ended: bool


class DeadLetter(NamedTuple):
    """An entry that was delivered too often: its item, encoded, its id, its tries, and who had it last."""

    raw: bytes
    id: str
    tries: int
    receiver: str


async def status(url: str, name: str) -> Status:
    """Tell what is in the stream `name` now.

    Raises:
        OSError: there is no server at `url`, or it refuses us.
        trio.BrokenResourceError: it does not answer.
    """
    async with open_lines(Address.of(url), 1, PATIENCE) as [line]:
        await first_call(line)
        entries, delivered, dead, senders, closed, ended = await line.insist(STATUS, Keys(check_name("name", name)))
        return Status(entries, delivered, dead, senders, bool(closed), bool(ended))


async def dead_letters(url: str, name: str, *, limit: int = 1000) -> list[DeadLetter]:
    """Give the oldest dead letters of the stream `name`, at most `limit`. They stay where they are.

    Raises:
        OSError: there is no server at `url`, or it refuses us.
        trio.BrokenResourceError: it does not answer.
    """
    check_count("limit", limit, 1)
    keys = Keys(check_name("name", name))
    async with open_lines(Address.of(url), 1, PATIENCE) as [line]:
        await first_call(line)
        found = await line.call("XRANGE", keys.dead, "-", "+", "COUNT", limit)
    letters = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found)
    return [
        DeadLetter(letter[b"v"], letter[b"id"].decode(), int(letter[b"tries"]), letter[b"owner"].decode())
        for letter in letters
    ]
