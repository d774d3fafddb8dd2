-- Shared: which of a group's operations may be committed again: those that the worker still holds under this claim, and
-- those that nobody holds and that were not claimed so often before. What is not there at all is remembered (`_ahead`).
local function is_free(name, id, row, claims, worker)
  if not row then return true end
  if row[2] ~= '@parked' then return false end
  if row[4] ~= claims then return row[4] < claims end
  local death = redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'death:' .. claims)
  return death and string.match(death, '^[^;]*;([^;]*);') == worker
end

-- By id the claim number that `commit` shall find, false where it is remembered; and how many of them nobody held.
local function unheld(q, group, at)
  local name, _, retention, ids, claims, _, _, follows = unpack(group)
  local have, idle, leads = {}, 0, {}
  for _, row in ipairs(follows) do leads[row[1]] = true end
  for i, id in ipairs(ids) do
    local op, record = name .. ':' .. id, ARGV[at + i - 1]
    local entry = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
    local row = entry and redis.call('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1)[1]
    if entry and row and row[2] == q.worker and row[4] == claims[i] then
      have[id] = claims[i]
    elseif entry and is_free(name, id, row, claims[i], q.worker) then
      have[id], idle = claims[i], idle + 1
      if row then unpark(name, id) end
    elseif not entry and not record_of(name, id) and not leads[i] and not (EFFECTS and EFFECTS[op]) then
      have[id] = false
      remember(name .. '|' .. id, claims[i], retention, record)
    end
  end
  return have, idle
end
