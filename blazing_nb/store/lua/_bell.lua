-- Shared: wake-ups. A few tokens a step are enough: who takes work and leaves some rings again.
local function ring(step)
  local key = P .. 'bell:' .. step
  if redis.call('LLEN', key) < 2 then redis.call('RPUSH', key, '1') end
end

local function ring_workers()
  for _, worker in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
    local key = P .. 'bell:@' .. worker
    if redis.call('LLEN', key) < 1 then redis.call('RPUSH', key, '1') end
    redis.call('PEXPIRE', key, 10000)
  end
end
