-- Shared: outcomes that were reasserted before their operations: a worker was there before the producer that sends again
-- what the store lost. `ahead`: <segment>|<dot> -> {claims, retention ms, record}. What is enqueued then ends at once.
local AHEAD_MS = 3600000
local ENDED = {S = 'succeeded', F = 'failed', C = 'cancelled', X = 'expired'}

local function remember(member, claims, retention, record)
  redis.call('HSET', P .. 'ahead', member, cmsgpack.pack({claims, retention, record}))
  redis.call('PEXPIRE', P .. 'ahead', AHEAD_MS)
end

-- Of operations that were enqueued just now.
local function overtake(name, first, n, id_at, now)
  local counts = {}
  for counter = first, first + n - 1 do
    local id = id_at(counter)
    local packed = redis.call('HGET', P .. 'ahead', name .. '|' .. id)
    if packed then
      local claims, retention, record = unpack(cmsgpack.unpack(packed))
      local fate = ENDED[string.sub(record, 1, 1)]
      redis.call('HDEL', P .. 'ahead', name .. '|' .. id)
      -- Where what it waits for has not ended it meanwhile.
      if #redis.call('XRANGE', P .. 'seg:' .. name, id, id) == 1 then
        unpark(name, id)
        finish(name, {{id, record, claims}}, now, retention)
        counts[fate] = (counts[fate] or 0) + 1
      end
    end
  end
  tally(string.match(name, '^[^:]*'), counts, now)
  settle(now)
end
