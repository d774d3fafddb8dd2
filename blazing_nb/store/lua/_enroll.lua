-- Shared: members are enrolled in a join: {{group, segment, incarnation (text), first, last}, ...}. Those that are final
-- already, or of whom nothing is known, are counted in the same script; of a flow that went on, the operation where it is.
local admit

-- Members that went on are enrolled where they are, those that follow each other at once.
local function shift(op, round, g, moved, now)
  local i = 1
  while i <= #moved and redis.call('HGET', P .. 'join:' .. op, 'round') == round do
    local name, incarnation, text = string.match(moved[i], '^(.*):(%d+)%-(%d+)$')
    local from, n = tonumber(text), 1
    local before = name .. ':' .. incarnation .. '-'
    while moved[i + n] == before .. string.format('%.0f', from + n) and (from + n) % 128 > 0 do n = n + 1 end
    admit(op, round, g, name, incarnation, from, from + n - 1, now)
    i = i + n
  end
end

-- Enrols `from` to `to`, of one chunk; bytes read for it. `known`: the join has the chunk's title.
admit = function(op, round, g, name, incarnation, from, to, now, known)
  local chunk, slots, present, bytes = math.floor(from / 128), {}, {}, 0
  local title = string.match(name, '^[^:]*:[^:]*:(.*)$') .. ':' .. incarnation .. ':' .. string.format('%.0f', chunk)
  for counter = from, to do slots[#slots + 1] = counter % 128 end
  local records, hits, waiting = redis.call('HMGET', P .. 'out:' .. title, unpack(slots)), {}, {}
  local low, high = incarnation .. '-' .. string.format('%.0f', from), incarnation .. '-' .. string.format('%.0f', to)
  for _, entry in ipairs(redis.call('XRANGE', P .. 'seg:' .. name, low, high)) do
    present[string.match(entry[1], '%d+$') % 128], bytes = true, bytes + #entry[2][2]
  end
  local moved = {}
  for i, slot in ipairs(slots) do
    local onto = records[i] and onward(records[i])
    if onto then
      moved[#moved + 1] = onto
    elseif present[slot] then
      waiting[#waiting + 1] = string.char(slot)
    else
      hits[#hits + 1] = {slot, string.sub(records[i] or '?', 1, 1)}
    end
    bytes = bytes + #(records[i] or '')
  end
  if #waiting > 0 then expect(title, g, round, op, table.concat(waiting)) end
  if not known then redis.call('HSET', P .. 'join:' .. op, 't' .. title, g) end
  if #hits > 0 then count(op, round, string.format('%d', g), name, incarnation, string.format('%.0f', chunk), hits, now) end
  shift(op, round, g, moved, now)
  return bytes
end

-- Enrols members until there are `limit`, or `most` bytes were read for them; how many.
local function enroll(op, round, members, limit, most, now)
  local done, bytes = 0, 0
  for _, member in ipairs(members) do
    local g, name, incarnation, from, last = unpack(member)
    while from <= last and done < limit and bytes < most do
      local to = math.min(last, from + 127 - from % 128)
      bytes = bytes + admit(op, round, g, name, incarnation, from, to, now, ENROLLING == op)
      done, from = done + to - from + 1, to + 1
    end
  end
  if ENROLLING ~= op then redis.call('HINCRBY', P .. 'join:' .. op, 'at', done) end
  return done
end
