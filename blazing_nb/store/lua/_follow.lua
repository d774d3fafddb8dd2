-- Shared: what follows a commit: operations that the store writes into its own segments, once because the fence is.
-- A row: {index in its group, number of its payload, step, prio, stages left, first operation, delay ms, deadline ms}.
local function by_index(rows)
  local found = {}
  for _, row in ipairs(rows) do
    found[row[1]] = found[row[1]] or {}
    table.insert(found[row[1]], row)
  end
  return found
end

-- Writes an operation beside others of this call; `...`: the entry's further fields. Its id.
local function write(row, now, ...)
  local _, number, step, prio, _, _, delay, deadline = unpack(row)
  local name, at = step .. ':' .. (delay > 0 and 'd' or prio) .. ':' .. OWN, string.format('%.0f', now)
  local extra, incarnation, counter = {...}, own_id(now)
  local id = incarnation .. '-' .. string.format('%.0f', counter)
  if not WRITTEN[name] then register(name, at) end
  if deadline > 0 then extra[#extra + 1], extra[#extra + 2] = 'x', string.format('%.0f', now + deadline) end
  redis.call('XADD', P .. 'seg:' .. name, id, 'p', ARGV[PAYLOADS + number], 't', at, unpack(extra))
  if delay > 0 then schedule(name, id, now + delay) elseif not WRITTEN[name] then activate(name) end
  WRITTEN[name] = (WRITTEN[name] or 0) + 1
  return name .. ':' .. id
end

-- The next stage of a flow, whose record says where it goes on; where a cancel came meanwhile, it ends here.
local function follow(name, id, claims, token, record, row, enqueued, now)
  if redis.call('HEXISTS', P .. 'live:' .. name .. ':' .. id, 'cancel') == 1 then
    local incarnation = string.match(token, '^%d+')
    return told('C', incarnation, claims, enqueued, now, claims, 'OperationCancelled', 'cancelled before its next stage')
  end
  local op, root = name .. ':' .. id, row[6]
  local place = row[5] .. '|' .. write(row, now, 'o', op, 'r', root ~= '' and root or op)
  return record .. cmsgpack.pack(place), place
end

local function announce(now)
  for name, n in pairs(WRITTEN) do
    local step = string.match(name, '^[^:]*')
    tally(step, {enqueued = n}, now)
    ring(step)
  end
end
