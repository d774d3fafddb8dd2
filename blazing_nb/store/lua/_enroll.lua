-- Shared: members are enrolled in a join: {{group, segment, incarnation (text), first, last}, ...}. Those that are final
-- already, or of whom nothing is known, are counted in the same script.
-- Enrols `from` to `to`, of one chunk; bytes read for it.
local function admit(op, round, g, name, incarnation, from, to, now)
  local chunk, slots, present, bytes = math.floor(from / 128), {}, {}, 0
  local title = string.match(name, '^[^:]*:[^:]*:(.*)$') .. ':' .. incarnation .. ':' .. string.format('%.0f', chunk)
  for counter = from, to do slots[#slots + 1] = counter % 128 end
  local records, hits, waiting = redis.call('HMGET', P .. 'out:' .. title, unpack(slots)), {}, {}
  local low, high = incarnation .. '-' .. string.format('%.0f', from), incarnation .. '-' .. string.format('%.0f', to)
  for _, entry in ipairs(redis.call('XRANGE', P .. 'seg:' .. name, low, high)) do
    present[string.match(entry[1], '%d+$') % 128], bytes = true, bytes + #entry[2][2]
  end
  for i, slot in ipairs(slots) do
    if present[slot] then waiting[#waiting + 1] = string.char(slot) else hits[#hits + 1] = {slot, string.sub(records[i] or '?', 1, 1)} end
    bytes = bytes + #(records[i] or '')
  end
  if #waiting > 0 then
    local number = redis.call('HINCRBY', KEYS[1], 'joined', 1)
    redis.call('SADD', P .. 'awaited', title)
    redis.call('ZADD', P .. 'next:' .. title, number, table.concat({g, round, op, number, table.concat(waiting)}, '|'))
  end
  redis.call('HSET', P .. 'join:' .. op, 't' .. title, g)
  if #hits > 0 then count(op, round, string.format('%d', g), name, incarnation, string.format('%.0f', chunk), hits, now) end
  return bytes
end

-- Enrols members until there are `limit`, or `most` bytes were read for them; how many.
local function enroll(op, round, members, limit, most, now)
  local done, bytes = 0, 0
  for _, member in ipairs(members) do
    local g, name, incarnation, from, last = unpack(member)
    while from <= last and done < limit and bytes < most do
      local to = math.min(last, from + 127 - from % 128)
      bytes = bytes + admit(op, round, g, name, incarnation, from, to, now)
      done, from = done + to - from + 1, to + 1
    end
  end
  redis.call('HINCRBY', P .. 'join:' .. op, 'at', done)
  return done
end
