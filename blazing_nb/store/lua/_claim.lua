-- Shared: claim for a worker's lanes ({budget, {step, ...}}), and the next moment of interest.
-- Rings where a claim leaves work behind that another may take; answers when it is worth to look again, which is now
-- where there is work left: a worker that has room need not wait for the bell.
local function leave(step, now)
  local bell, n, refilled = P .. 'bell:' .. step, allowance(step, now)
  if n < 1 or redis.call('SISMEMBER', P .. 'paused', step) == 1 then
    redis.call('DEL', bell)
    return refilled
  end
  local waits, due = waiting(step, now)
  if waits then ring(step) else redis.call('DEL', bell) end
  return waits and now or due
end

-- What was claimed, the next moment of interest, and 1 where the worker shall hold nothing beside it.
local function claim(worker, lanes, held, now)
  local out, due = {}, false
  if redis.call('EXISTS', P .. 'solo') == 1 then
    if alone(worker, lanes, held, now, out) then
      for _, lane in ipairs(lanes) do
        for _, step in ipairs(lane[2]) do leave(step, now) end
      end
      return out, false, 1
    end
    due = tonumber(redis.call('ZRANGE', P .. 'solo', 0, 0, 'WITHSCORES')[2] or nil)
    if due and due <= now then due = false end
  end
  for _, lane in ipairs(lanes) do
    local left = math.min(lane[1], 256)
    for _, step in ipairs(lane[2]) do
      if left > 0 then left = take_step(step, worker, now, left, out) end
      due = sooner(due, leave(step, now))
    end
  end
  return out, due, 0
end
