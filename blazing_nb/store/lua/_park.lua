-- Shared: every parking. Keeps an operation that nobody executes until `due`; the claim number stays.
-- Where it shall run alone (`_alone`), it waits in `solo` instead of its step's `parked`.
local function park(name, id, due, solo)
  redis.call('XCLAIM', P .. 'seg:' .. name, 'w', '@parked', 0, id, 'JUSTID')
  redis.call('ZADD', solo and P .. 'solo' or P .. 'parked:' .. string.match(name, '^[^:]*'), due, name .. '|' .. id)
end

-- An operation that is enqueued for later: parked before anybody could read it, with no claim counted.
local function schedule(name, id, due)
  local seg = P .. 'seg:' .. name
  redis.call('XCLAIM', seg, 'w', '@parked', 0, id, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID', 'LASTID', id)
  redis.call('ZADD', P .. 'parked:' .. string.match(name, '^[^:]*'), due, name .. '|' .. id)
end
