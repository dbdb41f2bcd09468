"""The status of a stream in Redis and its senders, for any process, and how to drop a sender."""

from __future__ import annotations

import math
import ssl
from typing import Final, NamedTuple

from trioflow.redis.asking import ask
from trioflow.redis.options import check_name
from trioflow.redis.scripts import stream_script

# -> the fields of `Status` in order, with the age of the oldest entry in ms; each receiver is its name, how many
# entries it holds, and for how many ms its lease lasts
_STATUS: Final = stream_script("""
local held, holding, receivers, age = 0, {}, {}, 0
if stream_exists() then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        held = held + info[6]
        for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, info[2])) do holding[consumer[2]] = consumer[4] end
    end
end
local returned, waiting = holding['(returned)'] or 0, holding['(waiting)'] or 0
holding['(returned)'], holding['(waiting)'] = nil, nil
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
    local alive_until = tonumber(string.match(all[i + 1], ' (%d+)$'))
    receivers[#receivers + 1] = {all[i], holding[all[i]] or 0, math.max(alive_until - now(), 0)}
    holding[all[i]] = nil
end
for name, count in pairs(holding) do
    if count > 0 then receivers[#receivers + 1] = {name, count, 0} end
end
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if oldest and oldest[2][1] == 'v' then age = math.max(now() - tonumber(string.match(oldest[1], '^%d+')), 0) end
local ended = redis.call('HEXISTS', meta, 'ended')
local length = redis.call('XLEN', stream)
if ended == 1 and length > 0 then length = length - 1 end
return {
    length, held, redis.call('XLEN', dead), redis.call('ZCARD', senders), redis.call('HEXISTS', meta, 'closed'), ended,
    tonumber(redis.call('HGET', meta, 'trimmed') or 0), redis.call('ZCARD', closed),
    tonumber(redis.call('HGET', meta, 'retries') or 0), returned, age,
    waiting, redis.call('ZCARD', later), tonumber(redis.call('HGET', meta, 'expired') or 0),
    redis.call('ZCOUNT', once, now(), '+inf'), receivers,
}
""")

# -> the senders, each as its name, how many items it has stored, and for how many ms its lease lasts, -1 for no lease
_SENDERS: Final = stream_script("""
local all, found = redis.call('ZRANGE', senders, 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
    local left = all[i + 1] == 'inf' and -1 or math.max(all[i + 1] - now(), 0)
    found[#found + 1] = {all[i], tonumber(redis.call('HGET', meta, 'stored:' .. all[i]) or 0), left}
end
return found
""")

# a sender -> 1; 0: no sender has that name
_DROP: Final = stream_script("""
if not redis.call('ZSCORE', senders, ARGV[1]) then return 0 end
retire(ARGV[1])
redis.pcall('HSET', meta, 'closing', '1')
end_if_done()
return 1
""")


class Receiver(NamedTuple):
    """A receiver: its name, how many entries it holds, and the seconds until its lease runs out; 0 if it has died."""

    name: str
    held: int
    lease: float


class Status(NamedTuple):
    """The status of a stream.

    Attributes:
        entries: How many entries are unread or unacknowledged.
        delivered: How many of those have been read: a receiver holds them, or they were given back or wait.
        dead: How many dead letters are kept.
        senders: How many senders are registered; `redis.senders` lists them.
        is_closed: Whether all senders have closed.
        is_ended: Whether all senders have closed and all entries are acknowledged.
        dropped: How many dead letters were dropped because there were more than `dead_letters`.
        remembered: How many closed senders are remembered, each for a week, in case one of that name comes back.
        retries: How many deliveries were not the first of their entry.
        returned: How many entries were given back and wait for another try.
        oldest: The age in seconds of the oldest unacknowledged entry; 0 if there are none.
        waiting: How many entries were read but may not be delivered yet, because they are delayed or another entry of
            their key comes first.
        delayed: How many of those wait until a certain time, when they are due or expire.
        expired: How many entries were deleted because they had expired.
        idempotency_keys: How many idempotency keys are remembered.
        receivers: The receivers, sorted by name.
    """

    entries: int
    delivered: int
    dead: int
    senders: int
    is_closed: bool
    is_ended: bool
    dropped: int
    remembered: int
    retries: int
    returned: int
    oldest: float
    waiting: int
    delayed: int
    expired: int
    idempotency_keys: int
    receivers: tuple[Receiver, ...]

    @property
    def lag(self) -> int:
        """How many entries have never been delivered."""
        return self.entries - self.delivered


class Sender(NamedTuple):
    """A registered sender: its name, how many items it has stored, and the seconds until its lease runs out, or inf."""

    producer: str
    stored: int
    lease: float


async def status(url: str, name: str, *, ssl_context: ssl.SSLContext | None = None) -> Status:
    """Return the current status of the stream `name`.

    Raises:
        OSError: there is no server at `url`, or it refuses the connection or the query.
        trio.BrokenResourceError: the server has not answered for five seconds.
    """
    *fields, found = await ask(url, name, ssl_context, lambda client: client.run(_STATUS))
    receivers = tuple(sorted(Receiver(who.decode(), count, lease / 1000) for who, count, lease in found))
    read = Status._make([*fields, receivers])
    return read._replace(is_closed=bool(read.is_closed), is_ended=bool(read.is_ended), oldest=read.oldest / 1000)


async def senders(url: str, name: str, *, ssl_context: ssl.SSLContext | None = None) -> list[Sender]:
    """Return the registered senders of the stream `name`. The stream cannot end while there are any.

    A sender whose block has failed, or whose process has died, stays registered unless it has a lease. If no new sender
    will continue it, as when it has no `producer` name, it keeps the stream from ending until you drop it. A sender
    without a `producer` name is listed under a name made of its host and process id. Raises as `status` does.
    """
    found = await ask(url, name, ssl_context, lambda client: client.run(_SENDERS))
    return [Sender(who.decode(), stored, lease / 1000 if lease >= 0 else math.inf) for who, stored, lease in found]


async def drop_sender(url: str, name: str, producer: str, *, ssl_context: ssl.SSLContext | None = None) -> bool:
    """Close the sender `producer` of the stream `name` on its behalf, and return whether there was one.

    Items that it has not sent are missing from the stream, which may then end. If the sender is alive, it registers
    again with its next item, unless the stream has ended.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is not a valid name.
        OSError, trio.BrokenResourceError: as for `status`.
    """
    check_name("producer", producer)
    return bool(await ask(url, name, ssl_context, lambda client: client.run(_DROP, producer)))
