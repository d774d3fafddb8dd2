-- Shared: how many operations of a step may be in flight over all workers, and how fast they may be claimed.
-- limits[step] = '<in flight>;<ms between two>;<burst>', 0 for none. The rate is a schedule (GCRA): `rate` holds, by step,
-- the moment at which the bucket is full again.
local LIMITS = {}
local flat = redis.call('HGETALL', P .. 'limits')
for i = 1, #flat, 2 do
  local cap, interval, burst = string.match(flat[i + 1], '^(%d+);([%d.]+);(%d+)$')
  LIMITS[flat[i]] = {cap = tonumber(cap), interval = tonumber(interval), burst = tonumber(burst)}
end

-- How many may be claimed now; where that is none for its rate, when the next one may.
local function allowance(step, now)
  local limit, n, due = LIMITS[step], 256, false
  if not limit then return n, due end
  if limit.cap > 0 then n = limit.cap - tonumber(redis.call('HGET', P .. 'stats:' .. step, 'flight') or '0') end
  if limit.interval > 0 then
    local full = math.max(now, tonumber(redis.call('HGET', P .. 'rate', step) or '0'))
    local free = math.floor(limit.burst - (full - now) / limit.interval + 1e-9)
    if free < 1 then due = math.ceil(full - (limit.burst - 1) * limit.interval) end
    n = math.min(n, free)
  end
  return n, due
end

local function spend(step, n, now)
  local limit = LIMITS[step]
  if n == 0 or not limit or limit.interval == 0 then return end
  local full = math.max(now, tonumber(redis.call('HGET', P .. 'rate', step) or '0'))
  redis.call('HSET', P .. 'rate', step, string.format('%.3f', full + n * limit.interval))
end
