-- Shared: ends an operation that nobody executes (it waits, or is parked), for a reason that no worker wrote.
-- Takes it out of where parked ones wait until they are due.
local function unpark(name, id)
  local step = string.match(name, '^[^:]*')
  redis.call('ZREM', P .. 'parked:' .. step, name .. '|' .. id)
  redis.call('ZREM', P .. 'solo', name .. '|' .. id)
  local need = redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'need')
  if need and redis.call('ZREM', P .. 'need:' .. need .. ':' .. step, name .. '|' .. id) == 1 then
    if redis.call('EXISTS', P .. 'need:' .. need .. ':' .. step) == 0 then redis.call('HDEL', P .. 'needs', need .. ':' .. step) end
  end
end

local function conclude(name, entry, row, letter, kind, story, now)
  local id, claims = entry[1], row and row[4] or 0
  unpark(name, id)
  local record = told(letter, '0', claims, tonumber(entry[2][4]), now, claims, kind, story)
  finish(name, {{id, record, 0}}, now, 86400000)
end
