"""What anyone may ask about a stream in Redis without being at either end of it, and how to drop a sender."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import trio

from trioflow._core.checks import check_count
from trioflow.redis.answers import Later, Refused
from trioflow.redis.client import ANSWER_TIMEOUT, Client, open_clients
from trioflow.redis.options import StreamOptions, check_name
from trioflow.redis.scripts import stream_script

# -> entries, how many of them are delivered, dead letters, senders, whether the stream is closed, whether it has ended, how
# many dead letters were dropped, how many closed senders are remembered
_STATUS: Final = stream_script("""
local held = 0
if stream_exists() then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do held = held + info[6] end
end
local ended = redis.call('HEXISTS', meta, 'ended')
local length = redis.call('XLEN', stream)
if ended == 1 and length > 0 then length = length - 1 end
return {
    length, held, redis.call('XLEN', dead), redis.call('ZCARD', senders), redis.call('HEXISTS', meta, 'closed'), ended,
    tonumber(redis.call('HGET', meta, 'trimmed') or 0), redis.call('ZCARD', closed),
}
""")

# -> the senders, each as its name, how much it has stored, and for how many ms its lease lasts: -1 if it has none
_SENDERS: Final = stream_script("""
local all, found = redis.call('ZRANGE', senders, 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
    local left = all[i + 1] == 'inf' and -1 or math.max(all[i + 1] - now(), 0)
    found[#found + 1] = {all[i], tonumber(redis.call('HGET', meta, 'stored:' .. all[i]) or 0), left}
end
return found
""")

# a sender -> 1; 0: there is none of that name
_DROP: Final = stream_script("""
if not redis.call('ZSCORE', senders, ARGV[1]) then return 0 end
retire(ARGV[1])
redis.pcall('HSET', meta, 'closing', '1')
end_if_done()
return 1
""")


class Status(NamedTuple):
    """What is in a stream.

    Attributes:
        entries: How many entries are unread or unacknowledged.
        delivered: How many of those are delivered.
        dead: How many dead letters are kept.
        senders: How many senders are registered; `redis.senders` names them.
        is_closed: Whether all senders have closed.
        is_ended: Whether everything is acknowledged, too.
        dropped: How many dead letters were dropped because there were more than `dead_letters`.
        remembered: How many closed senders are remembered, each for a week, in case one of that name comes again.
    """

    entries: int
    delivered: int
    dead: int
    senders: int
    is_closed: bool
    is_ended: bool
    dropped: int
    remembered: int


class Sender(NamedTuple):
    """A registered sender: its name, how many items it has stored, and the seconds until its lease runs out, or inf."""

    producer: str
    stored: int
    lease: float


class DeadLetter(NamedTuple):
    """An entry that was delivered too often: its item, still encoded, its id, its tries, and its last receiver."""

    raw: bytes
    id: str
    tries: int
    receiver: str


async def status(url: str, name: str, *, ssl_context: ssl.SSLContext | None = None) -> Status:
    """Return what is in the stream `name` now.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    entries, held, dead, open_, closed, ended, *rest = await _ask(
        url, name, ssl_context, lambda client: client.run(_STATUS)
    )
    return Status(entries, held, dead, open_, bool(closed), bool(ended), *rest)


async def senders(url: str, name: str, *, ssl_context: ssl.SSLContext | None = None) -> list[Sender]:
    """Return the registered senders of the stream `name`: it ends only when none is left.

    A sender whose block has failed, or whose process has died, stays registered unless it has a lease. One that nobody
    will continue, such as one without a `producer` name, keeps the stream from ending until it is dropped. The name that
    such a sender was given is made of its host and process.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    found = await _ask(url, name, ssl_context, lambda client: client.run(_SENDERS))
    return [Sender(who.decode(), stored, lease / 1000 if lease >= 0 else math.inf) for who, stored, lease in found]


async def drop_sender(url: str, name: str, producer: str, *, ssl_context: ssl.SSLContext | None = None) -> bool:
    """Close the sender `producer` of the stream `name` in its place, and return whether there was one.

    Items that it has not sent are missing from the stream, which may then end. If the sender is alive, it registers again
    with its next item, unless the stream has ended.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is no name.
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    check_name("producer", producer)
    return bool(await _ask(url, name, ssl_context, lambda client: client.run(_DROP, producer)))


async def dead_letters(
    url: str, name: str, *, limit: int = 1000, ssl_context: ssl.SSLContext | None = None
) -> list[DeadLetter]:
    """Return the oldest dead letters of the stream `name`, at most `limit`. They stay where they are.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the question.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    check_count("limit", limit, 1)
    found = await _ask(
        url, name, ssl_context, lambda client: client.call("XRANGE", client.keys.dead, "-", "+", "COUNT", limit)
    )
    letters = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found)
    return [
        DeadLetter(letter[b"v"], letter[b"id"].decode(), int(letter[b"tries"]), letter[b"owner"].decode())
        for letter in letters
    ]


async def _ask(
    url: str, name: str, ssl_context: ssl.SSLContext | None, question: Callable[[Client], Awaitable[Any]]
) -> Any:
    """Return the answer to a question that can be asked again."""
    options = StreamOptions(url, name, ssl_context=ssl_context)
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
