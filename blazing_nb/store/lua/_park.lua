-- Shared: every parking. Keeps an operation that nobody executes until `due`; the claim number stays.
local function park(name, id, due)
  redis.call('XCLAIM', P .. 'seg:' .. name, 'w', '@parked', 0, id, 'JUSTID')
  redis.call('ZADD', P .. 'parked:' .. string.match(name, '^[^:]*'), due, name .. '|' .. id)
end
