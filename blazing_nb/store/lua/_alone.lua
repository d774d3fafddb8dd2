-- Shared: an operation under which two workers have died runs alone in its worker, so that a third death is its own
-- and no neighbour's. One worker at a time, the one in `drain`, stops claiming until it holds nothing, and takes it.
local DRAIN_MS = 5000

local function suspect(lanes, now)
  local serves = {}
  for _, lane in ipairs(lanes) do
    for _, step in ipairs(lane[2]) do serves[step] = true end
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'solo', '-inf', now, 'LIMIT', 0, 64)) do
    local step = string.match(member, '^[^:]*')
    if serves[step] and allowance(step, now) > 0 and redis.call('SISMEMBER', P .. 'paused', step) == 0 then
      local need = redis.call('HGET', P .. 'live:' .. (string.gsub(member, '|', ':')), 'need')
      if not need or need == PYTHON then return member, step end
    end
  end
end

-- True where the worker shall claim nothing else now.
local function alone(worker, lanes, held, now, out)
  local member, step = suspect(lanes, now)
  if not member then return false end
  if held == 0 then
    local hist = {}
    redis.call('DEL', P .. 'drain')
    take_member(P .. 'solo', member, worker, now, hist, out)
    spend(step, #out, now)
    tally(step, hist, now)
    return #out > 0
  end
  if redis.call('SET', P .. 'drain', worker, 'NX', 'PX', DRAIN_MS) then return true end
  if redis.call('GET', P .. 'drain') ~= worker then return false end
  redis.call('PEXPIRE', P .. 'drain', DRAIN_MS)
  return true
end
