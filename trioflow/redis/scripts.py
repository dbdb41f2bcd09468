"""The Lua scripts, each run by the server as one step: the part that all of them share.

They use commands of Redis 7.0 and Valkey. The scripts are in `sender_scripts`, `receiver_scripts`, `status` and
`letters`.

Rule 1: an entry is deleted when it is acknowledged, so the stream's length counts unread and unacknowledged entries.
Rule 2: every script can be run again if its answer was lost.
Rule 3: a stream ends when a sender has closed, no other is registered and every entry is acknowledged. The end is then
    an entry too, the last one; each receiver takes it and puts it back for the next.
Rule 4: a write that the server denies when it is out of memory comes before all others, or can be made later.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script, and the digest under which the server caches it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Keys:
    """The keys of one stream. They share a hash tag, so in a cluster they are on one node."""

    def __init__(self, name: str) -> None:
        tag = f"{{{name}}}"
        self.stream, self.room, self.dead = f"{tag}:stream", f"{tag}:room", f"{tag}:dead"
        self.all = (
            *(self.stream, f"{tag}:meta", f"{tag}:senders", self.room, self.dead),
            *(f"{tag}:names", f"{tag}:closed", f"{tag}:why", f"{tag}:later", f"{tag}:order", f"{tag}:once"),
        )


_COMMON = """
local stream, meta, senders, room, dead, names, closed, why, later, order, once = unpack(KEYS)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function stream_exists() return redis.call('EXISTS', stream) == 1 end

-- Every script that changes the stream's length records it: if the key is deleted or evicted, we know what was lost.
local function note_length() redis.pcall('HSET', meta, 'length', redis.call('XLEN', stream)) end

local function loss()
    local length = tonumber(redis.call('HGET', meta, 'length') or 0)
    if length > 0 and not stream_exists() then
        return redis.error_reply('LOST ' .. stream .. ' is gone, with ' .. length .. ' entries: it was deleted or evicted')
    end
end

-- The next sender or receiver to open gets the error once; then the stream begins empty.
local function begin_anew()
    redis.call('HDEL', meta, 'length')
    redis.call('DEL', later, order)
end

-- Where an entry is in the order of its key: by key, then by id, padded with zeros so that it sorts by number.
local function place(key, id)
    local ms, number = string.match(id, '^(%d+)-(%d+)$')
    local zeros = string.rep('0', 20)
    return key .. '\\0' .. string.sub(zeros .. ms, -20) .. '-' .. string.sub(zeros .. number, -20)
end

-- Times are in ms; nil is left out. `headers` comes last: an entry with it as third field may be delivered at once.
local function add(value, due, expires, key, headers)
    local fields = {'v', value}
    local function put(name, text)
        if text then
            fields[#fields + 1] = name
            fields[#fields + 1] = text
        end
    end
    put('due', due and string.format('%d', due))
    put('expires', expires and string.format('%d', expires))
    put('key', key)
    put('headers', headers)
    local id = redis.call('XADD', stream, '*', unpack(fields))
    if key then redis.call('ZADD', order, 0, place(key, id)) end
end

-- Unregister a sender. How much it has stored is kept for a week, in case another sender of its name comes.
local function retire(sender)
    redis.call('ZREM', senders, sender)
    redis.call('HDEL', meta, 'token:' .. sender)
    redis.pcall('ZADD', closed, now(), sender)
end

local function forget(sender)
    redis.call('ZREM', closed, sender)
    redis.call('HDEL', meta, 'stored:' .. sender)
end

-- Close the stream if no sender is left, and post its end if it is empty. A sender whose lease has run out is gone.
local function end_if_done()
    if redis.call('HGET', meta, 'closing') and not redis.call('HGET', meta, 'closed') then
        for _, sender in ipairs(redis.call('ZRANGEBYSCORE', senders, '-inf', now())) do retire(sender) end
        if redis.call('ZCARD', senders) == 0 then redis.pcall('HSET', meta, 'closed', '1') end
    end
    if redis.call('HGET', meta, 'closed') and not redis.call('HGET', meta, 'ended')
        and redis.call('XLEN', stream) == 0 and not loss() then
        local posted = redis.pcall('XADD', stream, '*', 'end', '1')
        if type(posted) ~= 'table' then redis.call('HSET', meta, 'ended', '1', 'length', '1') end
    end
end

-- Wake one sender, since there may be room. The list holds at most one token, which does not guarantee room.
local function signal_room()
    if redis.call('LLEN', room) == 0 then redis.pcall('RPUSH', room, '1') end
end
"""


def stream_script(body: str) -> Script:
    """Return a script that may use the shared part."""
    return Script(_COMMON + body)
