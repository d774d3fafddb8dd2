-- Shared: works off what became final and somebody waits for, at most 128 waiting groups a call; the rest is the next
-- script's. A row of next:<chunk> is '<group>|<round>|<operation>|<number>|<slots>', a byte a member that is not final
-- yet: a set, so that what is told twice counts once. Its score, the number of its registration, makes it the only one.
-- What is registered after an event has counted itself.
local SETTLE_LIMIT = 128

local function arrive(event, key, row, score, final, now)
  local g, round, op, slots = string.match(row, '^(%d+)|(%d+)|([^|]*)|%d+|(.*)$')
  local rest, hits = {}, {}
  for i = 1, #slots do
    local slot = string.byte(slots, i)
    if final[slot] then hits[#hits + 1] = {slot, final[slot]} else rest[#rest + 1] = string.char(slot) end
  end
  if #hits == 0 then return end
  redis.call('ZREM', key, row)
  if #rest > 0 then redis.call('ZADD', key, score, table.concat({g, round, op, score, table.concat(rest)}, '|')) end
  count(op, round, g, event[1], event[2], event[3], hits, now)
end

-- True where something is left, which `unsettled` says to the next script.
local function settle(now, unsettled)
  if not HANDED and not unsettled then return false end
  HANDED = false
  local left = SETTLE_LIMIT
  while left > 0 do
    local item = redis.call('LINDEX', P .. 'settled', 0)
    if not item then
      if unsettled then redis.call('HDEL', KEYS[1], 'unsettled') end
      return false
    end
    local event, final = cmsgpack.unpack(item), {}
    for i = 1, #event[4] do final[string.byte(event[4], i)] = string.sub(event[5], i, i) end
    local node = string.match(event[1], '^[^:]*:[^:]*:(.*)$')
    local key = P .. 'next:' .. node .. ':' .. event[2] .. ':' .. event[3]
    local rows = redis.call('ZRANGEBYSCORE', key, '(' .. event[6], event[7], 'WITHSCORES', 'LIMIT', 0, left)
    for i = 1, #rows, 2 do arrive(event, key, rows[i], rows[i + 1], final, now) end
    if #rows / 2 < left then
      redis.call('LPOP', P .. 'settled')
      if redis.call('EXISTS', key) == 0 then redis.call('SREM', P .. 'awaited', string.sub(key, #P + 6)) end
    else
      event[6] = rows[#rows]
      redis.call('LSET', P .. 'settled', 0, cmsgpack.pack(event))
    end
    left = left - #rows / 2 - 1
  end
  redis.call('HSET', KEYS[1], 'unsettled', 1)
  return true
end
