"""What happens inside the server, each as one step that is done or not done: Lua, with commands of Redis 7.0 and Valkey.

Rule 1: an entry is deleted when it is acknowledged, so that the stream's length is what is unread or unacknowledged.
Rule 2: every script can be repeated when its answer was lost.
Rule 3: a stream ends when a sender has closed, no other is left, and all is acknowledged; its end is then an entry too,
    the last one, which each receiver takes and puts back.
Rule 4: what may be denied where memory is full either comes first, before anything is changed, or can be done later.
"""

from __future__ import annotations

import hashlib
from typing import Final

RETURNED: Final = "(returned)"  # who holds the entries that were given back


class Script:
    """One script, and the name the server knows it by."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Keys:
    """The keys of one stream. They share a hash tag, so that in a cluster they share a node."""

    __slots__ = ("all", "dead", "room", "stream")

    def __init__(self, name: str) -> None:
        tag = f"{{{name}}}"
        self.stream, self.room, self.dead = f"{tag}:stream", f"{tag}:room", f"{tag}:dead"
        self.all = (self.stream, f"{tag}:meta", f"{tag}:senders", self.room, self.dead, f"{tag}:names")


_COMMON = """
local stream, meta, senders, room, dead, names = unpack(KEYS)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Perhaps the end: of senders that may vanish, those not heard of in time are gone.
local function settle()
    if redis.call('HGET', meta, 'closing') and not redis.call('HGET', meta, 'closed') then
        redis.call('ZREMRANGEBYSCORE', senders, '-inf', now())
        if redis.call('ZCARD', senders) == 0 then redis.pcall('HSET', meta, 'closed', '1') end
    end
    if redis.call('HGET', meta, 'closed') and not redis.call('HGET', meta, 'ended') and redis.call('XLEN', stream) == 0 then
        local posted = redis.pcall('XADD', stream, '*', 'end', '1')
        if type(posted) ~= 'table' then redis.call('HSET', meta, 'ended', '1') end
    end
end

-- One token at most: it says that there may be room, and wakes one sender.
local function tell_room()
    if redis.call('LLEN', room) == 0 then redis.pcall('RPUSH', room, '1') end
end

local function register(sender, lease)
    local till = tonumber(lease) > 0 and now() + tonumber(lease) or '+inf'
    redis.call('ZADD', senders, till, sender)
end

local function give_back(group, id, times)
    redis.call('XCLAIM', stream, group, '(returned)', 0, id, 'IDLE', 1000000000, 'RETRYCOUNT', times, 'JUSTID')
end
"""

# sender, token, lease in ms (0: for ever) -> the number of its last stored item; -1: the stream is closed
OPEN: Final = Script(
    _COMMON
    + """
local sender, token, lease = unpack(ARGV)
if redis.call('HGET', meta, 'closed') then return -1 end
redis.call('HSET', meta, 'token:' .. sender, token)
register(sender, lease)
return tonumber(redis.call('HGET', meta, 'stored:' .. sender) or 0)
"""
)

# sender, token, lease -> 1; 0: another sender has its name
KEEP: Final = Script(
    _COMMON
    + """
local sender, token, lease = unpack(ARGV)
local owner = redis.call('HGET', meta, 'token:' .. sender)
if owner and owner ~= token then return 0 end
register(sender, lease)
return 1
"""
)

# sender, token, lease, capacity, number of the first item, items -> how many of them are stored;
# -1: the stream is closed, -2: another sender has its name
ADD: Final = Script(
    _COMMON
    + """
local sender, token, lease, capacity, number = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HGET', meta, 'closed') then return -1 end
local owner = redis.call('HGET', meta, 'token:' .. sender)
if not owner then -- the server has lost what it knew: this sender knows better
    redis.call('HSET', meta, 'token:' .. sender, token)
    register(sender, lease)
elseif owner ~= token then
    return -2
elseif tonumber(lease) > 0 then
    register(sender, lease)
end
local stored = tonumber(redis.call('HGET', meta, 'stored:' .. sender) or 0)
local free = capacity - redis.call('XLEN', stream)
local done = 0
for i = 6, #ARGV do
    local this = number + i - 6
    if this > stored then
        if free <= 0 then break end
        redis.call('XADD', stream, '*', 'v', ARGV[i])
        free = free - 1
        stored = this
        redis.call('HSET', meta, 'stored:' .. sender, string.format('%d', stored))
    end
    done = done + 1
end
if free > 0 then tell_room() else redis.call('DEL', room) end
return done
"""
)

# sender, token -> 1; 0: another sender has its name
CLOSE: Final = Script(
    _COMMON
    + """
local sender, token = unpack(ARGV)
local owner = redis.call('HGET', meta, 'token:' .. sender)
if owner and owner ~= token then return 0 end
redis.call('HDEL', meta, 'token:' .. sender)
redis.call('ZREM', senders, sender)
redis.pcall('HSET', meta, 'closing', '1')
settle()
return 1
"""
)

# group, receiver, token, lease in ms -> 1; 0: a receiver of that name is alive; the name of a group: that one reads here
JOIN: Final = Script(
    _COMMON
    + """
local group, me, token, lease = unpack(ARGV)
local exists = false
if redis.call('EXISTS', stream) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        if info[2] == group then exists = true else return info[2] end
    end
end
if not exists then redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM') end
local held = redis.call('HGET', names, me)
if held then
    local owner, till = string.match(held, '^(%S+) (%d+)$')
    if owner ~= token and tonumber(till) > now() then return 0 end
end
if not held or string.match(held, '^%S+') ~= token then -- what an earlier one of this name has left
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 10000, me)) do
        give_back(group, entry[1], entry[4])
    end
end
redis.call('HSET', names, me, token .. ' ' .. string.format('%d', now() + lease))
-- Those who died an hour ago will not be back; what they held was claimed.
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], ' (%d+)$')) < now() - 3600000 then
        redis.call('HDEL', names, all[i])
        if #redis.call('XPENDING', stream, group, '-', '+', 1, all[i]) == 0 then
            redis.call('XGROUP', 'DELCONSUMER', stream, group, all[i])
        end
    end
end
return 1
"""
)

# group, receiver, token, lease, ids -> the ids that another receiver has by now; nil: another receiver has the name
RENEW: Final = Script(
    _COMMON
    + """
local group, me, token, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('HGET', names, me)
if held and string.match(held, '^%S+') ~= token then return false end
redis.pcall('HSET', names, me, token .. ' ' .. string.format('%d', now() + lease))
local lost = {}
for i = 5, #ARGV do
    local found = redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
    if #found == 1 and found[1][2] == me then
        redis.call('XCLAIM', stream, group, me, 0, ARGV[i], 'JUSTID')
    else
        lost[#lost + 1] = ARGV[i]
    end
end
return lost
"""
)

# group, ids -> how many were still there
ACK: Final = Script(
    _COMMON
    + """
local group = ARGV[1]
local count = 0
for i = 2, #ARGV do
    redis.call('XACK', stream, group, ARGV[i])
    count = count + redis.call('XDEL', stream, ARGV[i])
end
settle()
if count > 0 then tell_room() end
return count
"""
)

# group, receiver, then pairs of an id and the number of tries that count -> how many were given back
RETURN: Final = Script(
    _COMMON
    + """
local group, me = ARGV[1], ARGV[2]
local count = 0
for i = 3, #ARGV, 2 do
    local found = redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
    if #found == 1 and found[1][2] == me then
        give_back(group, ARGV[i], ARGV[i + 1])
        count = count + 1
    end
end
return count
"""
)

# group, receiver, lease in ms, the most tries, the most entries, how many are in hand
# -> whether entries wait for their last try; then entries that others have left, as OWN gives them.
# The last try is made alone: who dies of it then has had nothing else in hand, which could be taken for the culprit.
CLAIM: Final = Script(
    _COMMON
    + """
local group, me, lease, tries = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local most, held = tonumber(ARGV[5]), tonumber(ARGV[6])
settle()
local given, waiting = {}, 0
if redis.call('EXISTS', stream) == 0 then return {0, given} end
for _, entry in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', most + 100)) do
    local id, owner, times = entry[1], entry[2], entry[4]
    local found = redis.call('XRANGE', stream, id, id)
    local is_end = #found == 1 and found[1][2][1] == 'end'
    local is_last = not is_end and times + 1 == tries
    if #found == 0 then
        redis.call('XACK', stream, group, id)
    elseif times >= tries and not is_end then
        local put = redis.pcall('XADD', dead, '*', 'v', found[1][2][2], 'id', id, 'tries', times, 'owner', owner)
        if type(put) ~= 'table' then
            redis.call('XACK', stream, group, id)
            redis.call('XDEL', stream, id)
            tell_room()
        end
    elseif owner == me or most == 0 then
        -- still in hand here, or no room
    elseif is_last and held + #given > 0 then
        waiting = 1
    elseif #given < most then
        redis.call('XCLAIM', stream, group, me, lease, id, 'RETRYCOUNT', times + 1, 'JUSTID')
        given[#given + 1] = {id, found[1][2][1], found[1][2][2], times + 1}
        if is_last then break end
    end
end
settle()
return {waiting, given}
"""
)

# group, receiver, the most entries -> those that the receiver holds: id, 'v' or 'end', value, tries
OWN: Final = Script(
    _COMMON
    + """
local group, me, most = unpack(ARGV)
local given = {}
if redis.call('EXISTS', stream) == 0 then return given end
for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', most, me)) do
    local found = redis.call('XRANGE', stream, entry[1], entry[1])
    if #found == 1 then given[#given + 1] = {entry[1], found[1][2][1], found[1][2][2], entry[4]} end
end
return given
"""
)

# group, id -> 1: the end was taken, and put back for the next receiver
END: Final = Script(
    _COMMON
    + """
local group, id = unpack(ARGV)
if #redis.call('XRANGE', stream, id, id) == 0 then return 1 end
redis.call('XADD', stream, '*', 'end', '1')
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
return 1
"""
)

# group, receiver, token -> 1: it has left
LEAVE: Final = Script(
    _COMMON
    + """
local group, me, token = unpack(ARGV)
local held = redis.call('HGET', names, me)
if held and string.match(held, '^%S+') ~= token then return 0 end
redis.call('HDEL', names, me)
if redis.call('EXISTS', stream) == 0 then return 1 end
-- A consumer that goes takes along what it holds: then it stays.
if #redis.call('XPENDING', stream, group, '-', '+', 1, me) == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, me) end
return 1
"""
)

# -> entries, of these unacknowledged, dead letters, senders, closed, ended
STATUS: Final = Script(
    _COMMON
    + """
local held = 0
if redis.call('EXISTS', stream) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do held = held + info[6] end
end
local ended = redis.call('HEXISTS', meta, 'ended')
local length = redis.call('XLEN', stream)
if ended == 1 and length > 0 then length = length - 1 end
return {length, held, redis.call('XLEN', dead), redis.call('ZCARD', senders), redis.call('HEXISTS', meta, 'closed'), ended}
"""
)
