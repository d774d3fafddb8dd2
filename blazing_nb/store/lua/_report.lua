-- Shared: how far running operations came. What is reported of a claim that is not the worker's is dropped.
local function report(worker, rows)
  for _, row in ipairs(rows) do
    local name, id, claims, text = unpack(row)
    local mine = redis.pcall('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1, worker)
    if not mine.err and mine[1] and mine[1][4] == claims then
      redis.call('HSET', P .. 'live:' .. name .. ':' .. id, 'progress', text)
      redis.call('SADD', P .. 'marks', name .. ':' .. id)
    end
  end
end
