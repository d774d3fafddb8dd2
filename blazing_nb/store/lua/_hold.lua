-- Shared: outcomes of members are kept for as long as an operation waits for them, or has not read them yet: at least this
-- long from their end, and renewed by heartbeats, one join a call, twice in that time.
local HOLD_MS = 86400000

local HELD = {}

local function hold(title, now)
  if HELD[title] then return end
  HELD[title] = true
  local left = redis.call('PTTL', P .. 'out:' .. title)
  if left < 0 or left > HOLD_MS / 2 then return end
  redis.call('PEXPIRE', P .. 'out:' .. title, HOLD_MS)
  redis.call('PEXPIRE', P .. 'whose:' .. title, HOLD_MS)
  redis.call('ZADD', P .. 'expiring', 'GT', now + HOLD_MS, title)
end

local function renew(now)
  local op = redis.call('ZRANGEBYSCORE', P .. 'joins', '-inf', now - HOLD_MS / 2, 'LIMIT', 0, 1)[1]
  if not op then return end
  if redis.call('EXISTS', P .. 'join:' .. op) == 0 then return redis.call('ZREM', P .. 'joins', op) end
  for _, field in ipairs(redis.call('HKEYS', P .. 'join:' .. op)) do
    if string.sub(field, 1, 1) == 't' then hold(string.sub(field, 2), now) end
  end
  redis.call('ZADD', P .. 'joins', 'XX', now, op)
end
