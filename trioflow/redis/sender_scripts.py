"""The scripts of a sender: register, add, close. `scripts` has their rules."""

from __future__ import annotations

from typing import Final

from trioflow.redis.scripts import Script, stream_script

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


def _sender_script(body: str) -> Script:
    return stream_script(_SENDER + body)


# -> the number of the sender's last stored item; -1: the stream is closed
OPEN: Final = _sender_script("""
local lost = loss()
if lost then
    begin_anew()
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

# capacity, number of the first item, for how many ms an idempotency key is remembered, the options of each item as JSON
# ('' if no item has any), items -> how many of them are stored, now or before; -1: the stream is closed, -2: a newer
# sender has the name
ADD: Final = _sender_script("""
local capacity, number = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HGET', meta, 'closed') then return -1 end
if is_replaced then return -2 end
local length = redis.call('XLEN', stream)
local lost = length == 0 and loss()
if lost then return lost end
-- Without an owner, the server has restarted without its latest data.
if not owner then redis.call('HSET', meta, 'token:' .. sender, token) end
if not owner or tonumber(lease) > 0 then register() end
local stored = last_stored()
local done, time = 0, now()
local options = ARGV[7] ~= '' and cjson.decode(ARGV[7])
local function is_known(key) return key and tonumber(redis.call('ZSCORE', once, key) or 0) > time end
for i = 8, #ARGV do
    local this, option = number + i - 8, options and options[i - 7]
    if this > stored then
        if not option then
            if length >= capacity then break end
            redis.call('XADD', stream, '*', 'v', ARGV[i])
            length = length + 1
        elseif not is_known(option.once) then
            if length >= capacity then break end
            add(ARGV[i], option.delay and time + option.delay, option.ttl and time + option.ttl, option.key, option.headers)
            if option.once then redis.call('ZADD', once, time + ARGV[6], option.once) end
            length = length + 1
        end
        stored = this
    end
    done = done + 1
end
-- Written again if the call is repeated, since WAIT only covers writes of the same connection.
if done > 0 then redis.call('HSET', meta, 'stored:' .. sender, string.format('%d', stored), 'length', length) end
if options then redis.call('ZREMRANGEBYSCORE', once, '-inf', time) end
if length < capacity then signal_room() else redis.call('DEL', room) end
return done
""")

# whether a sender of its name may come back
# -> 1; 0: a newer sender has the name
CLOSE: Final = _sender_script("""
if is_replaced then return 0 end
local lost = loss()
if lost then return lost end
retire(sender)
if ARGV[4] == '0' then forget(sender) end
local week = 7 * 24 * 3600000
for _, old in ipairs(redis.call('ZRANGEBYSCORE', closed, '-inf', now() - week, 'LIMIT', 0, 1000)) do forget(old) end
redis.call('ZREMRANGEBYSCORE', once, '-inf', now())
redis.pcall('HSET', meta, 'closing', '1')
end_if_done()
return 1
""")
