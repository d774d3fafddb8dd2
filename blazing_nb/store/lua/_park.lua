-- Shared: every parking. Keeps an operation that nobody executes until `due`; the claim number stays.
-- One under which two workers died shall run alone (`_alone`): it waits in `solo` instead of its step's `parked`. One that
-- only workers of another Python can load waits in `need:<python>:<step>`, which `needs` lists; these take it as parked.
local ALONE = 2

local function place(name, id, now)
  local live, step = P .. 'live:' .. name .. ':' .. id, string.match(name, '^[^:]*')
  local deaths, need = unpack(redis.call('HMGET', live, 'deaths', 'need'))
  if tonumber(deaths or '0') >= ALONE then return P .. 'solo' end
  if not need then return P .. 'parked:' .. step end
  redis.call('HSETNX', P .. 'needs', need .. ':' .. step, string.format('%.0f', now))
  return P .. 'need:' .. need .. ':' .. step
end

local function park(name, id, due)
  redis.call('XCLAIM', P .. 'seg:' .. name, 'w', '@parked', 0, id, 'JUSTID')
  redis.call('ZADD', place(name, id, due), due, name .. '|' .. id)
end

-- An operation that is enqueued for later: parked before anybody could read it, with no claim counted.
local function schedule(name, id, due)
  local seg = P .. 'seg:' .. name
  redis.call('XCLAIM', seg, 'w', '@parked', 0, id, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID', 'LASTID', id)
  redis.call('ZADD', P .. 'parked:' .. string.match(name, '^[^:]*'), due, name .. '|' .. id)
end
