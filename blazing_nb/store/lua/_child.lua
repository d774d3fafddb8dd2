-- Shared: workflows and what they call. hist:<workflow> (hash) holds, by the position of a call, the operation it became and
-- a digest of its arguments; '=' <position>: that one's outcome; '!' <claim>: what the workflow was told in that claim, in
-- order. wait:<workflow> (hash) says what it waits for: position -> group, '#' <group> -> how many are missing.
local cancel

-- It is parked: due now. Where it runs, its own commit looks at what came meanwhile.
local function wake(op, now)
  local name, id = string.match(op, '^(.*):([^:]*)$')
  local step = string.match(name, '^[^:]*')
  if redis.call('ZADD', P .. 'parked:' .. step, 'XX', 'CH', now, name .. '|' .. id) == 1 then ring(step) end
end

-- An operation that a workflow called is final. `call`: <workflow>#<position>.
local function answer(call, record, now)
  local op, position = string.match(call, '^(.*)#(%d+)$')
  local hist, waits = P .. 'hist:' .. op, P .. 'wait:' .. op
  if redis.call('EXISTS', hist) == 0 then return end
  redis.call('HSET', hist, '=' .. position, record)
  local group = redis.call('HGET', waits, position)
  if not group then return end
  redis.call('HDEL', waits, position)
  if redis.call('HINCRBY', waits, '#' .. group, -1) == 0 then wake(op, now) end
end

local function forsake(hist, position, now)
  local child = redis.call('HGET', hist, position)
  if not child or redis.call('HEXISTS', hist, '=' .. position) == 1 then return end
  local name, incarnation, counter = string.match(child, '^(.*):(%d+)%-(%d+)|')
  cancel(name, incarnation, tonumber(counter), now)
end

-- A workflow's end: what it called and nobody awaits any more is cancelled; its history stays as long as its outcome.
local function close(op, now, retention)
  local hist = P .. 'hist:' .. op
  if redis.call('EXISTS', hist) == 0 then return end
  redis.call('DEL', P .. 'wait:' .. op)
  for _, field in ipairs(redis.call('HKEYS', hist)) do
    if string.find(field, '^%d+$') then forsake(hist, field, now) end
  end
  redis.call('PEXPIRE', hist, retention)
end
