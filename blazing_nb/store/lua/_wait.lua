-- Shared: a workflow that waits. What it calls is enqueued, and it is parked until all members of one of its groups are
-- final, or its next timer is due. The body is 'W' {timer's ms or 0, what it was told or "", groups of positions, positions
-- whose calls it gave up, claimed ms}. Neither failure, death nor release; deaths before it did not stop its progress, and
-- count no more. A repeated one is known by its token.
local FOREVER = 31622400000

-- When it is due: now where a group is final already.
local function watch(op, groups, timer, now)
  local hist, waits = P .. 'hist:' .. op, P .. 'wait:' .. op
  local due = timer > 0 and timer or now + FOREVER
  redis.call('DEL', waits)
  for g, members in ipairs(groups) do
    local missing = 0
    for _, position in ipairs(members) do
      if redis.call('HEXISTS', hist, '=' .. position) == 0 then
        redis.call('HSET', waits, position, g)
        missing = missing + 1
      end
    end
    if missing == 0 then due = now else redis.call('HSET', waits, '#' .. g, missing) end
  end
  return due
end

local function wait(name, id, claims, token, body, rows, enqueued, now)
  local op, incarnation = name .. ':' .. id, string.match(token, '^%d+')
  local live, hist = P .. 'live:' .. op, P .. 'hist:' .. op
  local timer, told_, groups, gone, claimed = unpack(cmsgpack.unpack(string.sub(body, 2)))
  if redis.call('HEXISTS', live, 'cancel') == 1 then
    return told('C', incarnation, claims, enqueued, now, claims, 'OperationCancelled', 'cancelled while it ran')
  end
  for _, row in ipairs(rows) do
    redis.call('HSET', hist, row[5], write(row, now, 'w', op .. '#' .. row[5]) .. '|' .. row[6])
  end
  if told_ ~= '' then redis.call('HSET', hist, '!' .. claims, told_) end
  for _, position in ipairs(gone) do forsake(hist, position, now) end
  local deaths = tonumber(redis.call('HGET', live, 'deaths') or '0')
  redis.call('HDEL', live, 'deaths')
  redis.call('HINCRBY', live, 'waits', 1 + deaths)
  local story = string.format('%.0f;%s;%.0f', now, incarnation, claimed)
  redis.call('HSET', live, 'token', token, 'waited', claims, 'wait:' .. claims, story)
  local due = watch(op, groups, timer, now)
  park(name, id, due)
  if due <= now then ring(string.match(name, '^[^:]*')) end
end
