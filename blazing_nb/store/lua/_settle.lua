-- Shared: works off what became final and somebody waits for, at most 128 waiting groups (or members that went on) a call; the rest is the next
-- script's. A row of next:<chunk> is '<group>|<round>|<operation>|<number>|<slots>', a byte a member that is not final
-- yet: a set, so that what is told twice counts once. Its score, the number of its registration, makes it the only one.
-- What is registered after an event has counted itself.
local SETTLE_LIMIT = 128

local function arrive(event, key, row, score, final, now)
  local g, round, op, slots = string.match(row, '^(%d+)|(%d+)|([^|]*)|%d+|(.*)$')
  local rest, hits, moved = {}, {}, {}
  for i = 1, #slots do
    local slot = string.byte(slots, i)
    if event.onto[slot] then
      moved[#moved + 1] = event.onto[slot]
    elseif final[slot] then
      hits[#hits + 1] = {slot, final[slot]}
    else
      rest[#rest + 1] = string.char(slot)
    end
  end
  if #hits + #moved == 0 then return 1 end
  redis.call('ZREM', key, row)
  if #rest > 0 then redis.call('ZADD', key, score, table.concat({g, round, op, score, table.concat(rest)}, '|')) end
  if #hits > 0 then count(op, round, g, event[1], event[2], event[3], hits, now) end
  shift(op, round, g, moved, now)
  return 1 + #moved
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
    local event, final, cost, at = cmsgpack.unpack(item), {}, 0, 1
    event.onto = {}
    for i = 1, #event[8], 2 do event.onto[event[8][i]] = event[8][i + 1] end
    for i = 1, #event[4] do final[string.byte(event[4], i)] = string.sub(event[5], i, i) end
    local node = string.match(event[1], '^[^:]*:[^:]*:(.*)$')
    local key = P .. 'next:' .. node .. ':' .. event[2] .. ':' .. event[3]
    local rows = redis.call('ZRANGEBYSCORE', key, '(' .. event[6], event[7], 'WITHSCORES', 'LIMIT', 0, left)
    while at < #rows and cost < left do
      cost, at = cost + arrive(event, key, rows[at], rows[at + 1], final, now), at + 2
    end
    if at > #rows and #rows / 2 < left then
      redis.call('LPOP', P .. 'settled')
      if redis.call('EXISTS', key) == 0 then forget(string.sub(key, #P + 6)) end
    else
      event[6], event.onto = rows[at - 1], nil
      redis.call('LSET', P .. 'settled', 0, cmsgpack.pack(event))
    end
    left = left - cost - 1
  end
  redis.call('HSET', KEYS[1], 'unsettled', 1)
  return true
end
