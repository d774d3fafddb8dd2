#!lua flags=no-writes
-- DOES    answers counts and depths of all segments, steps and workers at one moment: all that a view may see.
-- KEYS    1 meta (hash); derives segs (zset), seg:<segment> (stream), steps, stats:<step>, worker:<id> (hash), workers (zset), clock,
-- KEYS    needs (hash), need:<python>:<step> (zset)
-- ARGV    1 now_ms, empty for the server's TIME
-- REPLY   msgpack {now_ms, {{segment, entries, pending, parked, head's enqueue ms or 0}, ...}, {{step, {field, value, ...}}, ...},
-- REPLY   {{worker, lease end ms, {field, value, ...}}, ...}, {{python, step, operations, since ms}, ...}}
-- REJECT  BZARG never: there is nothing to refuse
-- COST    O(segments + steps + workers), never O(operations)
-- KEEPS   reads only
local P = string.sub(KEYS[1], 1, -5)
-- @include _moving
-- @include _now
local segments, steps, workers = {}, {}, {}
for _, name in ipairs(redis.call('ZRANGE', P .. 'segs', 0, -1)) do
  local seg, parked = P .. 'seg:' .. name, 0
  local pending = redis.call('XPENDING', seg, 'w')
  for _, row in ipairs(pending[4] or {}) do
    if row[1] == '@parked' then parked = tonumber(row[2]) end
  end
  local head = redis.call('XRANGE', seg, '-', '+', 'COUNT', 1)[1]
  local age = head and tonumber(head[2][4]) or 0
  segments[#segments + 1] = {name, redis.call('XLEN', seg), pending[1], parked, age}
end
for _, step in ipairs(redis.call('HKEYS', P .. 'steps')) do
  steps[#steps + 1] = {step, redis.call('HGETALL', P .. 'stats:' .. step)}
end
local ends = redis.call('ZRANGE', P .. 'workers', 0, -1, 'WITHSCORES')
for i = 1, #ends, 2 do
  workers[#workers + 1] = {ends[i], tonumber(ends[i + 1]), redis.call('HGETALL', P .. 'worker:' .. ends[i])}
end
local needs, flat = {}, redis.call('HGETALL', P .. 'needs')
for i = 1, #flat, 2 do
  local python, step = string.match(flat[i], '^([^:]*):(.*)$')
  local n = redis.call('ZCARD', P .. 'need:' .. flat[i])
  if n > 0 then needs[#needs + 1] = {python, step, n, tonumber(flat[i + 1])} end
end
return cmsgpack.pack({now, segments, steps, workers, needs})
