-- Shared: ends an operation that waits or is parked, or asks the worker that holds it to stop; `gently`: leaves it alone there.
local function ask(name, id, worker)
  redis.call('HSET', P .. 'live:' .. name .. ':' .. id, 'cancel', '1')
  redis.call('SADD', P .. 'marks', name .. ':' .. id)
  redis.call('RPUSH', P .. 'cancels:' .. worker, name .. ':' .. id)
  redis.call('PEXPIRE', P .. 'cancels:' .. worker, 3600000)
  redis.call('RPUSH', P .. 'bell:@' .. worker, '1')
  redis.call('PEXPIRE', P .. 'bell:@' .. worker, 10000)
  return 'ASKED'
end

cancel = function(name, incarnation, counter, now, gently)
  local id, node = incarnation .. '-' .. string.format('%.0f', counter), string.match(name, '^[^:]*:[^:]*:(.*)$')
  local chunk = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. string.format('%d', math.floor(counter / 128))
  if redis.call('HEXISTS', chunk, string.format('%d', counter % 128)) == 1 then return 'FINAL' end
  local entry = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
  if not entry then return 'ABSENT' end
  local row = redis.call('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1)[1]
  if row and row[2] ~= '@parked' then return gently and 'CLAIMED' or ask(name, id, row[2]) end
  conclude(name, entry, row, 'C', 'OperationCancelled', 'cancelled before it ran', now)
  tally(string.match(name, '^[^:]*'), {cancelled = 1, withdrawn = 1}, now)
  return 'CANCELLED'
end
