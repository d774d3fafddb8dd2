-- Shared: what nobody needs any more goes, a few segments at a time. An empty segment that was not written for a minute
-- disappears; its last id stays in `last`, so that its ids never come back. Consumers that own nothing are dropped.
local REST_MS = 60000
local STEP = 16

local function prune(name)
  local seg, step, prio = P .. 'seg:' .. name, string.match(name, '^([^:]*):([^:]*):')
  redis.call('HSET', P .. 'last', name, redis.call('XINFO', 'STREAM', seg)[8])
  redis.call('DEL', seg)
  redis.call('ZREM', P .. 'segs', name)
  redis.call('ZREM', P .. 'active:' .. step .. ':' .. prio, name)
end

local function drop_idle(name)
  local seg = P .. 'seg:' .. name
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', seg, 'w')) do
    if row[4] == 0 and row[6] > REST_MS and row[2] ~= '@parked' then redis.call('XGROUP', 'DELCONSUMER', seg, 'w', row[2]) end
  end
end

local function sweep(now)
  local n = redis.call('ZCARD', P .. 'segs')
  if n == 0 then return end
  local at = redis.call('HINCRBY', KEYS[1], 'sweep', STEP) % n
  local names = redis.call('ZRANGE', P .. 'segs', at, at + STEP - 1, 'WITHSCORES')
  for i = 1, #names, 2 do
    local name = names[i]
    if now - tonumber(names[i + 1]) > REST_MS and redis.call('XLEN', P .. 'seg:' .. name) == 0 then prune(name) else drop_idle(name) end
  end
end
