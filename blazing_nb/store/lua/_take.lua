-- Shared: every taking, for one worker. Due parked operations, then the step's active segments, least
-- recently served first, with a fair share each; high before normal before low, every eighth turn the other way.
local function take_segment(step, active, name, worker, want, turn, now, hist, out)
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'w', worker, 'COUNT', want, 'STREAMS', P .. 'seg:' .. name, '>')
  if not reply or reply.err then
    redis.call('ZREM', active, name)
    if reply then redis.call('HINCRBY', P .. 'stats:' .. step, 'broken', 1) end
    return 0
  end
  local entries = reply[1][2]
  if #entries < want then redis.call('ZREM', active, name) else redis.call('ZADD', active, turn, name) end
  give(name, 1, 0, expire(step, name, entries, 1, worker, now, hist), hist, out)
  return #entries
end

local function sooner(due, other)
  if other and (not due or other < due) then return other end
  return due
end

local function head_of(key)
  local due = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return due and tonumber(due) or false
end

-- Whether anything of a step may be taken now, and when the next parked operation is due.
local function waiting(step, now)
  local active = P .. 'active:' .. step .. ':'
  local due = head_of(P .. 'parked:' .. step)
  if NEEDS[step] then due = sooner(due, head_of(P .. 'need:' .. NEEDS[step])) end
  return (due and due <= now) or redis.call('EXISTS', active .. 'h', active .. 'n', active .. 'l') > 0, due
end

local function take_step(step, worker, now, budget, out)
  if redis.call('SISMEMBER', P .. 'paused', step) == 1 then return budget end
  local most, hist = math.min(budget, (allowance(step, now))), {}
  if most <= 0 or not waiting(step, now) then return budget end
  local turn = redis.call('HINCRBY', KEYS[1], 'turn', 1)
  -- What is due has half of it, or every other turn; and what the segments leave.
  local share = most == 1 and redis.call('HINCRBY', KEYS[1], 'ones:' .. step, 1) % 2 or math.ceil(most / 2)
  local left = most - (share > 0 and take_parked(step, worker, now, share, hist, out) or 0)
  for _, prio in ipairs(turn % 8 == 0 and {'l', 'n', 'h'} or {'h', 'n', 'l'}) do
    if left <= 0 then break end
    local active = P .. 'active:' .. step .. ':' .. prio
    local names = redis.call('ZRANGE', active, 0, left - 1)
    for i, name in ipairs(names) do
      left = left - take_segment(step, active, name, worker, math.ceil(left / (#names - i + 1)), turn, now, hist, out)
    end
  end
  if left > 0 then left = left - take_parked(step, worker, now, left, hist, out) end
  spend(step, most - left, now)
  if most > left then tally(step, hist, now) end
  return budget - (most - left)
end
