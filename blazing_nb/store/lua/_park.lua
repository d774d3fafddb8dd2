-- Shared: every parking. Keeps an operation that nobody executes until `due`; the claim number stays.
-- One under which two workers died shall run alone (`_alone`): it waits in `solo` instead of its step's `parked`.
local ALONE = 2

local function park(name, id, due)
  redis.call('XCLAIM', P .. 'seg:' .. name, 'w', '@parked', 0, id, 'JUSTID')
  local deaths = tonumber(redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'deaths') or '0')
  local key = deaths >= ALONE and P .. 'solo' or P .. 'parked:' .. string.match(name, '^[^:]*')
  redis.call('ZADD', key, due, name .. '|' .. id)
end

-- An operation that is enqueued for later: parked before anybody could read it, with no claim counted.
local function schedule(name, id, due)
  local seg = P .. 'seg:' .. name
  redis.call('XCLAIM', seg, 'w', '@parked', 0, id, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID', 'LASTID', id)
  redis.call('ZADD', P .. 'parked:' .. string.match(name, '^[^:]*'), due, name .. '|' .. id)
end
