"""The scripts of a receiver: join, renew, acknowledge, give back, claim, hold and leave. `scripts` has their rules."""

from __future__ import annotations

from typing import Final

from trioflow.redis.scripts import Script, stream_script

# Every script of a receiver has these arguments first; the lease is in ms.
_RECEIVER = """
local group, me, token, lease = unpack(ARGV, 1, 4)

-- The token of the receiver that has this name, and until when it is alive; nil if none has it.
local function name_owner() return string.match(redis.call('HGET', names, me) or '', '^(%S+) (%d+)$') end

local function take_name(call) call('HSET', names, me, token .. ' ' .. string.format('%d', now() + lease)) end

local function free_name(name)
    redis.call('HDEL', names, name)
    -- Deleting a consumer drops its entries, so one that holds any stays until they are claimed.
    if stream_exists() and #redis.call('XPENDING', stream, group, '-', '+', 1, name) == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
end

local function holder(id)
    local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
    return pending and pending[2]
end

-- The fields of an entry, the first 'v' or 'end'; nil if it was deleted.
local function read(id)
    local found = redis.call('XRANGE', stream, id, id)[1]
    return found and found[2]
end

local function options_of(fields)
    local found = {}
    for i = 3, #fields, 2 do found[fields[i]] = fields[i + 1] end
    return found
end

local DIED = ' gave no sign of life for its lease' -- begins with a space: the name of an error would come before it

-- If another entry may have caused the end of a try, because the receiver died or several entries failed together, the
-- reason begins with a brace, which no name has. The last try of such an entry is made alone.
local function has_company(id) return string.sub(redis.call('HGET', why, id) or '', 1, 1) == '{' end

-- Record how the last try of an entry ended, and with which receiver; not recorded if the server is out of memory.
local function note_reason(id, receiver, reason, in_company)
    local mark = (in_company or has_company(id)) and '{' or ''
    redis.pcall('HSET', why, id, mark .. receiver .. ' ' .. reason)
end

-- Move an entry to a consumer that is not a receiver, from which any receiver may claim it at once.
local function give_back(id, times)
    redis.call('XCLAIM', stream, group, '(returned)', 0, id, 'IDLE', 1000000000, 'RETRYCOUNT', times, 'JUSTID')
end

-- Move an entry to a consumer that no receiver claims from, until `wake` moves it on: at a time in ms, or if it is nil,
-- when the entry before it is done. If the server has no memory for the time, the entry is given back instead.
local function park(id, times, time)
    if time and type(redis.pcall('ZADD', later, time, id)) == 'table' then return give_back(id, times) end
    redis.call('XCLAIM', stream, group, '(waiting)', 0, id, 'RETRYCOUNT', times, 'JUSTID')
end

local function wake(id)
    redis.call('ZREM', later, id)
    local pending = redis.call('XPENDING', stream, group, id, id, 1, '(waiting)')[1]
    if pending then give_back(id, pending[4]) end
    return pending
end

-- The first entry of a key, and whether entries before it were deleted by another program.
local function first_of(key)
    local has_gaps = false
    while true do
        local found = redis.call('ZRANGEBYLEX', order, '[' .. key .. '\\0', '(' .. key .. '\\1', 'LIMIT', 0, 1)[1]
        if not found then return end
        local ms, number = string.match(string.sub(found, -41), '^0*(%d+)-0*(%d+)$')
        local id = ms .. '-' .. number
        if read(id) then return id, has_gaps end
        redis.call('ZREM', order, found)
        has_gaps = true
    end
end

-- Acknowledge and delete entries. Returns how many there were, and how many entries of the same keys were woken.
local function delete(...)
    local keys, woken = {}, 0
    if redis.call('EXISTS', order) == 1 then
        for _, id in ipairs({...}) do
            local fields = read(id)
            local key = fields and options_of(fields).key
            if key then
                if first_of(key) == id then keys[#keys + 1] = key end
                redis.call('ZREM', order, place(key, id))
            end
        end
    end
    redis.call('XACK', stream, group, ...)
    redis.call('HDEL', why, ...)
    redis.call('ZREM', later, ...)
    local count = redis.call('XDEL', stream, ...)
    for _, key in ipairs(keys) do
        local first = first_of(key)
        if first and wake(first) then woken = woken + 1 end
    end
    note_length()
    return count, woken
end

-- Whether an entry may be delivered now. If not, it is parked until then, or deleted if it has expired.
local function is_for_now(id, fields, times)
    if #fields == 2 or fields[3] == 'headers' then return true end
    local options, time = options_of(fields), now()
    local expires, due = tonumber(options.expires), tonumber(options.due)
    if expires and expires <= time then
        delete(id)
        redis.pcall('HINCRBY', meta, 'expired', 1)
        signal_room()
        return false
    elseif due and due > time then
        park(id, times, math.min(due, expires or due))
        return false
    elseif options.key then
        local first, has_gaps = first_of(options.key)
        if first and first ~= id then
            if has_gaps then wake(first) end
            park(id, times, expires)
            return false
        end
    end
    return true
end

local function give_back_all(untried, has_died)
    if not stream_exists() then return end
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 10000, me)) do
        if has_died then note_reason(entry[1], me, DIED, true) end
        give_back(entry[1], math.max(entry[4] - untried, 0))
    end
end

-- Whether the next try of an entry must be made with nothing else in hand.
local function is_alone(id, kind, times, tries) return kind == 'v' and times + 1 == tries and has_company(id) end
"""


def _receiver_script(body: str) -> Script:
    return stream_script(_RECEIVER + body)


# '' at first; later an entry in hand, or '-' without one
# -> 1; 2: this receiver joined before, and the server did not know it any more; 0: a receiver of this name is alive; the
# name of the other group that reads this stream
JOIN: Final = _receiver_script("""
local lost = loss()
if lost then
    if ARGV[5] == '' then begin_anew() end
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
    give_back_all(0, true) -- entries that an earlier receiver of this name had in hand when it died
end
take_name(redis.call)
-- Names not renewed for an hour belong to receivers that died; their entries have been claimed.
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], ' (%d+)$')) < now() - 3600000 then free_name(all[i]) end
end
return ARGV[5] ~= '' and not owner and 2 or 1
""")

# ids -> those that another receiver has by now; nil: another receiver has the name
RENEW: Final = _receiver_script("""
local owner = name_owner()
if owner and owner ~= token then return false end
if not owner and #ARGV == 4 then return redis.error_reply('NOGROUP ' .. group .. ' has no receiver ' .. me) end
local lost = {}
for i = 5, #ARGV do
    if holder(ARGV[i]) == me then
        redis.call('XCLAIM', stream, group, me, 0, ARGV[i], 'JUSTID')
    else
        lost[#lost + 1] = ARGV[i]
    end
end
take_name(redis.pcall) -- last: if the server has lost everything, the name must stay lost, so that JOIN notices
return lost
""")

# ids -> how many entries that waited for them may be claimed
ACK: Final = _receiver_script("""
local count, woken = delete(unpack(ARGV, 5))
end_if_done()
if count > 0 then signal_room() end
return woken
""")

# for each entry: its id, the number of tries that count, how the last one ended ('' if it does not count), 1 if several
# entries failed together, and for how many ms not to deliver it -> how many were given back
GIVE_BACK: Final = _receiver_script("""
local count = 0
for i = 5, #ARGV, 5 do
    local id, times, reason, together, delay = unpack(ARGV, i, i + 4)
    if holder(id) == me then
        if reason ~= '' then note_reason(id, me, reason, together == '1') end
        if tonumber(delay) > 0 then park(id, times, now() + delay) else give_back(id, times) end
        count = count + 1
    end
end
return count
""")

# the largest number of tries, the largest number of entries to claim, how many are in hand, where to begin, how many
# dead letters to keep, for how many ms an entry of another receiver must have been idle ('' to claim only those given
# back) -> 1 if an entry waits for a try with nothing else in hand, else 0; where to continue, '-' if nothing else is
# due; then the entries claimed, as HELD returns them
# If a receiver dies in a try that is made alone, that entry must be the cause.
CLAIM: Final = _receiver_script("""
local tries, most, held, after, idle = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[10]
local lost = loss()
if lost then return lost end
end_if_done()
local claimed, waiting, retried, is_full = {}, 0, 0, false

local function bury(id, fields, times, owner)
    local reason = owner .. ' ' .. DIED
    if owner == '(returned)' then reason = string.match(redis.call('HGET', why, id) or '  ', '^{?(.*)$') end
    local letter = {'v', fields[2], 'id', id, 'tries', times, 'why', reason}
    for name, text in pairs(options_of(fields)) do
        letter[#letter + 1] = name
        letter[#letter + 1] = text
    end
    local put = redis.pcall('XADD', dead, '*', unpack(letter))
    if type(put) == 'table' then return end
    delete(id)
    local trimmed = redis.call('XTRIM', dead, 'MAXLEN', ARGV[9])
    if trimmed > 0 then redis.call('HINCRBY', meta, 'trimmed', trimmed) end
    signal_room()
end

local function consider(id, owner, times)
    local fields = read(id)
    local kind = fields and fields[1]
    local has_died = owner ~= '(returned)' and times > 0
    if not kind then
        redis.call('XACK', stream, group, id)
        redis.call('HDEL', why, id)
        return
    elseif kind == 'v' and times >= tries then
        return bury(id, fields, times, owner)
    elseif not is_for_now(id, fields, times) then
        return
    end
    if has_died and kind == 'v' then note_reason(id, owner, DIED, true) end
    local alone = is_alone(id, kind, times, tries)
    if alone and held + #claimed > 0 then
        waiting = 1
        return
    end
    redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', times + 1, 'JUSTID')
    claimed[#claimed + 1] = {id, fields, times + 1, alone and 1 or 0}
    if kind == 'v' and times > 0 then retried = retried + 1 end
    is_full = alone or #claimed == most
end

-- Look at the entries of a consumer, and return where to continue, '-' at the end.
local function look(consumer, least, from)
    if is_full then return from == '-' and '0' or from end
    local due = redis.call('XPENDING', stream, group, 'IDLE', least, from, '+', most + 100, consumer)
    for i, entry in ipairs(due) do
        consider(entry[1], consumer, entry[4])
        if i == most + 100 or i < #due and is_full then return '(' .. entry[1] end
    end
    return '-'
end

local time = now()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', time, 'LIMIT', 0, 1000)) do wake(id) end

-- Entries whose leases ran out come first: entries given back again and again could otherwise keep them waiting.
local is_rest = false
for _, consumer in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
    if idle ~= '' and consumer[1] ~= me and not string.find(consumer[1], '^%(') then
        is_rest = look(consumer[1], idle, '-') ~= '-' or is_rest
    end
end
after = look('(returned)', 0, after)
if after == '-' and is_rest then after = '+' end
if retried > 0 then redis.pcall('HINCRBY', meta, 'retries', retried) end
end_if_done()
return {waiting, after, claimed}
""")

# the largest number of tries, the largest number of entries, ids if only these are meant -> the entries that this
# receiver holds and that may be delivered now, each as id, fields, tries, and 1 if this try is made alone
HELD: Final = _receiver_script("""
local held = {}
local function consider(entry)
    if not entry then return end
    local id, times = entry[1], entry[4]
    local fields = read(id)
    if fields and is_for_now(id, fields, math.max(times - 1, 0)) then
        held[#held + 1] = {id, fields, times, is_alone(id, fields[1], times - 1, tonumber(ARGV[5])) and 1 or 0}
    end
end
if ARGV[7] then
    for i = 7, #ARGV do consider(redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1, me)[1]) end
else
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[6], me)) do consider(entry) end
end
end_if_done()
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
give_back_all(1) -- entries in an answer that was lost, which were not tried
free_name(me)
return 1
""")
