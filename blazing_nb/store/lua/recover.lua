#!lua
-- DOES    answers a worker's own pending operations that it does not hold: a claim whose reply was lost.
-- KEYS    1 meta (hash); derives segs (zset), seg:<segment> (stream), live:<operation> (hash)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, held: {segment:id = true}}
-- REPLY   {{segment, claims, deaths + releases + waits, {{id, {"p", payload, "t", enqueued_ms}}}}, ...}
-- REJECT  BZARG worker=
-- COST    O(segments + operations held)
-- KEEPS   reads only: no claim number changes
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if not q.worker or q.worker == '' then return redis.error_reply('BZARG worker=') end
clock(ARGV[1])
local out = {}
for _, name in ipairs(redis.call('ZRANGE', P .. 'segs', 0, -1)) do
  local seg = P .. 'seg:' .. name
  for _, row in ipairs(redis.call('XPENDING', seg, 'w', '-', '+', 4096, q.worker)) do
    if not q.held[name .. ':' .. row[1]] then
      local live = redis.call('HMGET', P .. 'live:' .. name .. ':' .. row[1], 'deaths', 'releases', 'waits')
      local spent = tonumber(live[1] or 0) + tonumber(live[2] or 0) + tonumber(live[3] or 0)
      out[#out + 1] = {name, row[4], spent, redis.call('XRANGE', seg, row[1], row[1])}
    end
  end
end
return out
