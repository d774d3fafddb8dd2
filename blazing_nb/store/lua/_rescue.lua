-- Shared: give dead workers' claims back, in bounded steps, run by every claim and heartbeat; no leader.
-- A worker leaves `lost` when nothing is pending for it, and only then are its consumers dropped.
local DEATHS = 3

local function bury(name, row, letter, deaths, worker, now, kind, story)
  local entry = redis.call('XRANGE', P .. 'seg:' .. name, row[1], row[1])[1]
  local enqueued = entry and tonumber(entry[2][4]) or now
  local incarnation = string.match(worker, '%.(%d+)$') or '0'
  local record = told(letter, incarnation, row[4], enqueued, now, deaths, kind, story)
  finish(name, {{row[1], record, 0}}, now, 86400000)
end

local function rescue_segment(name, worker, now, limit)
  local rows = redis.pcall('XPENDING', P .. 'seg:' .. name, 'w', '-', '+', limit, worker)
  if rows.err then return 0, true end
  local counts = {flight = -#rows}
  for _, row in ipairs(rows) do
    local live = P .. 'live:' .. name .. ':' .. row[1]
    local deaths = redis.call('HINCRBY', live, 'deaths', 1)
    redis.call('HSET', live, 'death:' .. row[4], string.format('%.0f;%s;%.0f', now, worker, now - row[3]))
    if redis.call('HEXISTS', live, 'cancel') == 1 then
      bury(name, row, 'C', deaths, worker, now, 'OperationCancelled', 'cancelled; its worker died meanwhile')
      counts.cancelled = (counts.cancelled or 0) + 1
    elseif deaths >= DEATHS then
      local story = 'its worker died under it ' .. deaths .. ' times; the last was ' .. worker
      bury(name, row, 'L', deaths, worker, now, 'OperationLost', story)
      counts.lost = (counts.lost or 0) + 1
    else
      park(name, row[1], now + (deaths - 1) * (deaths - 1) * 1000)
      counts.rescued = (counts.rescued or 0) + 1
    end
  end
  local step = string.match(name, '^[^:]*')
  if #rows > 0 then tally(step, counts, now); ring(step) end
  local empty = #rows < limit
  if empty then redis.call('XGROUP', 'DELCONSUMER', P .. 'seg:' .. name, 'w', worker) end
  return #rows, empty
end

local function lose(worker, now)
  redis.call('ZREM', P .. 'workers', worker)
  redis.call('ZADD', P .. 'lost', now, worker)
  redis.call('ZRANGESTORE', P .. 'rescue:' .. worker, P .. 'segs', 0, -1)
end

local function rescue(now)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', '(' .. now, 'LIMIT', 0, 4)) do
    lose(worker, now)
  end
  local left, moved = 256, 0
  for _, worker in ipairs(redis.call('ZRANGE', P .. 'lost', 0, 3)) do
    local key = P .. 'rescue:' .. worker
    for _, name in ipairs(redis.call('ZRANGE', key, 0, 63)) do
      if left > 0 then
        local n, empty = rescue_segment(name, worker, now, left)
        left, moved = left - n, moved + n
        if empty then redis.call('ZREM', key, name) end
      end
    end
    if redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', P .. 'lost', worker)
      redis.call('DEL', P .. 'worker:' .. worker, P .. 'bell:@' .. worker)
    end
  end
  return moved
end
