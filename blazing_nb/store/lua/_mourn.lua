-- Shared: what did not succeed keeps its arguments, so that it can be retried, for as long as its outcome.
local function mourn(name, id, now, retention)
  local step, op, entry = string.match(name, '^[^:]*'), name .. ':' .. id, redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
  if not entry then return end
  local origin = op
  for i = 5, #entry[2], 2 do
    if entry[2][i] == 'k' then origin = step .. '|' .. entry[2][i + 1] end
    if entry[2][i] == 'o' or entry[2][i] == 'w' then origin = entry[2][i + 1] end
  end
  redis.call('HSET', P .. 'live:' .. op, 'payload', entry[2][2], 'origin', origin)
  redis.call('PEXPIRE', P .. 'live:' .. op, retention)
  redis.call('ZADD', P .. 'failed:' .. step, now + retention, op)
  redis.call('ZREMRANGEBYSCORE', P .. 'failed:' .. step, '-inf', now)
end
