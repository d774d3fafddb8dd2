-- Shared: claim for a worker's lanes ({budget, {step, ...}}), and the next moment of interest.
local function leave(step, now)
  if redis.call('SISMEMBER', P .. 'paused', step) == 1 then
    redis.call('DEL', P .. 'bell:' .. step)
    return false
  end
  local more = false
  for _, prio in ipairs({'h', 'n', 'l'}) do
    more = more or redis.call('EXISTS', P .. 'active:' .. step .. ':' .. prio) == 1
  end
  local head = redis.call('ZRANGE', P .. 'parked:' .. step, 0, 0, 'WITHSCORES')
  local due = head[2] and tonumber(head[2]) or false
  if more or (due and due <= now) then ring(step) else redis.call('DEL', P .. 'bell:' .. step) end
  return due
end

local function claim(worker, lanes, now)
  local out, due = {}, false
  for _, lane in ipairs(lanes) do
    local left = math.min(lane[1], 256)
    for _, step in ipairs(lane[2]) do
      if left > 0 then left = take_step(step, worker, now, left, out) end
      local head = leave(step, now)
      if head and (not due or head < due) then due = head end
    end
  end
  return out, due
end
