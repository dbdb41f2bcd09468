"""The Lua scripts, each of which the server runs as one step; they use commands of Redis 7.0 and Valkey.

Rule 1: an entry is deleted when it is acknowledged, so the stream's length is what is unread or unacknowledged.
Rule 2: every script can be run again if its answer was lost.
Rule 3: a stream ends when a sender has closed, no other is registered and everything is acknowledged. The end is then
    an entry too, the last one; each receiver takes it and puts it back for the next.
Rule 4: a write that the server denies when it is out of memory either comes before any other, or can be made later.
"""

from __future__ import annotations

import hashlib
from typing import Final


class Script:
    """A script, and the digest that the server caches it under."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Keys:
    """The keys of one stream. They share a hash tag, so in a cluster they are on one node."""

    __slots__ = ("all", "dead", "room", "stream")

    def __init__(self, name: str) -> None:
        tag = f"{{{name}}}"
        self.stream, self.room, self.dead = f"{tag}:stream", f"{tag}:room", f"{tag}:dead"
        self.all = (
            *(self.stream, f"{tag}:meta", f"{tag}:senders", self.room, self.dead),
            *(f"{tag}:names", f"{tag}:closed", f"{tag}:why"),
        )


_COMMON = """
local stream, meta, senders, room, dead, names, closed, why = unpack(KEYS)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function stream_exists() return redis.call('EXISTS', stream) == 1 end

-- Every script that changes the stream's length notes it, so that if the key is deleted or evicted it is known what was lost.
local function note_length() redis.pcall('HSET', meta, 'length', redis.call('XLEN', stream)) end

local function loss()
    local length = tonumber(redis.call('HGET', meta, 'length') or 0)
    if length > 0 and not stream_exists() then
        return redis.error_reply('LOST ' .. stream .. ' is gone, with ' .. length .. ' entries: it was deleted or evicted')
    end
end

-- A sender is registered no longer. How much it has stored is remembered for a week, in case another of its name comes.
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

-- Wake one sender: there may be room. The list holds at most one token, which promises nothing.
local function signal_room()
    if redis.call('LLEN', room) == 0 then redis.pcall('RPUSH', room, '1') end
end
"""

# Every script of a sender has these arguments first; a lease of 0 ms never runs out.
_SENDER = """
local sender, token, lease = unpack(ARGV, 1, 3)
local owner = redis.call('HGET', meta, 'token:' .. sender)
local is_replaced = owner and owner ~= token

local function register()
    redis.call('ZADD', senders, tonumber(lease) > 0 and now() + lease or '+inf', sender)
    redis.call('ZREM', closed, sender)
end

local function last_stored() return tonumber(redis.call('HGET', meta, 'stored:' .. sender) or 0) end
"""

# Every script of a receiver has these arguments first; the lease is in ms.
_RECEIVER = """
local group, me, token, lease = unpack(ARGV, 1, 4)

-- The token of the receiver that has this name, and until when it is alive; nil if nobody has it.
local function name_owner() return string.match(redis.call('HGET', names, me) or '', '^(%S+) (%d+)$') end

local function take_name(call) call('HSET', names, me, token .. ' ' .. string.format('%d', now() + lease)) end

local function free_name(name)
    redis.call('HDEL', names, name)
    -- Deleting a consumer drops what it holds, so one that holds something stays until that was claimed.
    if stream_exists() and #redis.call('XPENDING', stream, group, '-', '+', 1, name) == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
end

local function is_held(id)
    local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
    return pending and pending[2] == me
end

-- 'v' or 'end', and the value; nil if the entry is deleted.
local function read(id)
    local found = redis.call('XRANGE', stream, id, id)[1]
    if found then return found[2][1], found[2][2] end
end

local function delete(...)
    redis.call('XACK', stream, group, ...)
    redis.call('HDEL', why, ...)
    local count = redis.call('XDEL', stream, ...)
    note_length()
    return count
end

local DIED = ' gave no sign of life for its lease' -- the name of an error comes first, if there was one

-- Move an entry to a consumer that no receiver has the name of, idle for so long that any may claim it at once. A reason,
-- with the receiver, says how its last try ended; it is lost if the server is out of memory.
local function give_back(id, times, reason)
    if reason then redis.pcall('HSET', why, id, me .. ' ' .. reason) end
    redis.call('XCLAIM', stream, group, '(returned)', 0, id, 'IDLE', 1000000000, 'RETRYCOUNT', times, 'JUSTID')
end

local function give_back_all(untried, reason)
    if not stream_exists() then return end
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 10000, me)) do
        give_back(entry[1], math.max(entry[4] - untried, 0), reason)
    end
end
"""


def stream_script(body: str) -> Script:
    """Return a script of neither end, which may use what all have in common."""
    return Script(_COMMON + body)


def _sender_script(body: str) -> Script:
    return Script(_COMMON + _SENDER + body)


def _receiver_script(body: str) -> Script:
    return Script(_COMMON + _RECEIVER + body)


# -> the number of the sender's last stored item; -1: the stream is closed
# A loss is told once to the one that opens: then the stream begins anew.
OPEN: Final = _sender_script("""
local lost = loss()
if lost then
    redis.call('HDEL', meta, 'length')
    return lost
end
if redis.call('HGET', meta, 'closed') then return -1 end
redis.call('HSET', meta, 'token:' .. sender, token)
register()
return last_stored()
""")

# -> 1; 0: a newer sender has the name
RENEW_SENDER: Final = _sender_script("""
if is_replaced then return 0 end
register()
return 1
""")

# capacity, number of the first item, items -> how many of them are stored;
# -1: the stream is closed, -2: a newer sender has the name
ADD: Final = _sender_script("""
local capacity, number = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HGET', meta, 'closed') then return -1 end
if is_replaced then return -2 end
local length = redis.call('XLEN', stream)
local lost = length == 0 and loss()
if lost then return lost end
-- No owner: the server has restarted without what it knew.
if not owner then redis.call('HSET', meta, 'token:' .. sender, token) end
if not owner or tonumber(lease) > 0 then register() end
local stored = last_stored()
local done, added = 0, false
for i = 6, #ARGV do
    local this = number + i - 6
    if this > stored then
        if length >= capacity then break end
        redis.call('XADD', stream, '*', 'v', ARGV[i])
        length, stored, added = length + 1, this, true
    end
    done = done + 1
end
if added then redis.call('HSET', meta, 'stored:' .. sender, string.format('%d', stored), 'length', length) end
if length < capacity then signal_room() else redis.call('DEL', room) end
return done
""")

# whether its name may come again
# -> 1; 0: a newer sender has the name
CLOSE: Final = _sender_script("""
if is_replaced then return 0 end
local lost = loss()
if lost then return lost end
retire(sender)
if ARGV[4] == '0' then forget(sender) end
local week = 7 * 24 * 3600000
for _, old in ipairs(redis.call('ZRANGEBYSCORE', closed, '-inf', now() - week, 'LIMIT', 0, 1000)) do forget(old) end
redis.pcall('HSET', meta, 'closing', '1')
end_if_done()
return 1
""")

# '' at first; later an entry in hand, or '-' if there is none
# -> 1; 0: a receiver of this name is alive; the name of the other group that reads this stream
JOIN: Final = _receiver_script("""
local lost = loss()
if lost then
    if ARGV[5] == '' then redis.call('HDEL', meta, 'length') end -- as for OPEN
    return lost
end
local owner, alive_until = name_owner()
if not owner and string.match(ARGV[5], '%d') and not read(ARGV[5]) then
    return redis.error_reply('LOST ' .. stream .. ' is gone, with entries in hand here and all that were unread: '
        .. 'it was flushed, or the server started without its data')
end
local group_exists = false
if stream_exists() then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        if info[2] == group then group_exists = true else return info[2] end
    end
end
if not group_exists then redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM') end
if owner ~= token then
    if owner and tonumber(alive_until) > now() then return 0 end
    give_back_all(0, DIED) -- what an earlier receiver of this name had in hand when it died
end
take_name(redis.call)
-- Names not renewed for an hour belong to receivers that died; others have claimed what they held.
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], ' (%d+)$')) < now() - 3600000 then free_name(all[i]) end
end
return 1
""")

# ids -> those that another receiver has by now; nil: another receiver has the name
RENEW: Final = _receiver_script("""
local owner = name_owner()
if owner and owner ~= token then return false end
take_name(redis.pcall)
local lost = {}
for i = 5, #ARGV do
    if is_held(ARGV[i]) then
        redis.call('XCLAIM', stream, group, me, 0, ARGV[i], 'JUSTID')
    else
        lost[#lost + 1] = ARGV[i]
    end
end
return lost
""")

# ids -> how many of them were not deleted yet
ACK: Final = _receiver_script("""
local count = delete(unpack(ARGV, 5))
end_if_done()
if count > 0 then signal_room() end
return count
""")

# triples of an id, the number of tries that count, and how the last ended, '' if it does not count -> how many were given back
GIVE_BACK: Final = _receiver_script("""
local count = 0
for i = 5, #ARGV, 3 do
    if is_held(ARGV[i]) then
        give_back(ARGV[i], ARGV[i + 1], ARGV[i + 2] ~= '' and ARGV[i + 2])
        count = count + 1
    end
end
return count
""")

# the most tries, the most entries to claim, how many are in hand, where to begin, how many dead letters to keep, for how
# many ms an entry must have been idle
# -> 1 if entries wait for their last try, else 0; where to go on, '-' if nothing else is due; then the entries claimed, as
# HELD returns them
# The last try is made with nothing else in hand: if the receiver dies, no other entry can have caused it.
CLAIM: Final = _receiver_script("""
local tries, most, held, after, idle = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[10]
local lost = loss()
if lost then return lost end
end_if_done()
local claimed, waiting, retried = {}, 0, 0
local due = redis.call('XPENDING', stream, group, 'IDLE', idle, after, '+', most + 100)
after = '-'
for i, entry in ipairs(due) do
    local id, owner, times = entry[1], entry[2], entry[4]
    local kind, value = read(id)
    local is_last = kind == 'v' and times + 1 == tries
    if not kind then
        redis.call('XACK', stream, group, id)
        redis.call('HDEL', why, id)
    elseif kind == 'v' and times >= tries then
        local reason = owner .. ' ' .. DIED
        if owner == '(returned)' then reason = redis.call('HGET', why, id) or '  ' end
        local put = redis.pcall('XADD', dead, '*', 'v', value, 'id', id, 'tries', times, 'why', reason)
        if type(put) ~= 'table' then
            delete(id)
            local trimmed = redis.call('XTRIM', dead, 'MAXLEN', ARGV[9])
            if trimmed > 0 then redis.call('HINCRBY', meta, 'trimmed', trimmed) end
            signal_room()
        end
    elseif owner == me then
        -- It is still in hand here.
    elseif is_last and held + #claimed > 0 then
        waiting = 1
    else
        redis.call('XCLAIM', stream, group, me, idle, id, 'RETRYCOUNT', times + 1, 'JUSTID')
        claimed[#claimed + 1] = {id, kind, value, times + 1}
        if kind == 'v' and times > 0 then retried = retried + 1 end
    end
    if i == most + 100 or i < #due and (#claimed == most or is_last and #claimed == 1) then
        after = '(' .. id
        break
    end
end
if retried > 0 then redis.pcall('HINCRBY', meta, 'retries', retried) end
end_if_done()
return {waiting, after, claimed}
""")

# the most entries -> those that this receiver holds, each as id, 'v' or 'end', value, tries
HELD: Final = _receiver_script("""
local held = {}
for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[5], me)) do
    local kind, value = read(entry[1])
    if kind then held[#held + 1] = {entry[1], kind, value, entry[4]} end
end
return held
""")

# id of the end -> 1: it was taken, and put back for the next receiver
PASS_END: Final = _receiver_script("""
if read(ARGV[5]) then
    redis.call('XADD', stream, '*', 'end', '1')
    delete(ARGV[5])
end
return 1
""")

# -> 1; 0: another receiver has the name
LEAVE: Final = _receiver_script("""
local owner = name_owner()
if owner and owner ~= token then return 0 end
give_back_all(1) -- what came in an answer that was lost, and so was not tried
free_name(me)
return 1
""")
