-- Shared: the fence. Every id and its claim number are compared with what the pending list says this worker holds, never the
-- number of rows. What is not owned may have been committed by the same claim before: a repeated commit. By pcall: a segment
-- that is empty since may be gone, and nothing is owned there; it must not keep the other segments from their commit.
local function owned(seg, worker, ids, held)
  local have = {}
  if #ids * 8 >= held then
    for _, row in ipairs(redis.pcall('XPENDING', seg, 'w', ids[1], ids[#ids], held, worker)) do have[row[1]] = row[4] end
  end
  -- One by one where they are few; and where a claim whose reply was lost made the worker hold more than it knows.
  for _, id in ipairs(ids) do
    local row = not have[id] and redis.pcall('XPENDING', seg, 'w', id, id, 1, worker)[1]
    if row then have[id] = row[4] end
  end
  return have
end

local function record_of(name, id)
  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')
  local incarnation, counter = string.match(id, '^(%d+)%-(%d+)$')
  local chunk = string.format('%d', math.floor(tonumber(counter) / 128))
  local key = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. chunk
  return redis.call('HGET', key, string.format('%d', tonumber(counter) % 128))
end

local function committed(name, id, token)
  if redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'token') == token then return true end
  local record = record_of(name, id)
  return record and string.sub(record, 2, #token + 1) == token
end
