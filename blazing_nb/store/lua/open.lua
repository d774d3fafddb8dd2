#!lua flags=allow-oom
-- DOES    registers a start of a node or a worker; answers its incarnation: max(now_ms * 2^11 + random, last + 1).
-- KEYS    1 meta (hash); derives workers (zset), worker:<id> (hash), nodes (hash), names (hash), clock (string)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {kind: "node" | "worker", name, random: 0..2047, lease_ms, info: {field, value, ...}}
-- REPLY   incarnation as text
-- REJECT  BZARG kind=<kind>
-- COST    O(1)
-- KEEPS   incarnations of an app only grow; each is given once
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if q.kind ~= 'node' and q.kind ~= 'worker' then return redis.error_reply('BZARG kind=' .. tostring(q.kind)) end
local now = clock(ARGV[1])
local last = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or '0')
local incarnation = string.format('%.0f', math.max(now * 2048 + q.random, last + 1))
redis.call('HSET', KEYS[1], 'incarnation', incarnation)
redis.call('HSETNX', KEYS[1], 'epoch', incarnation)
if q.kind == 'node' then
  redis.call('HSET', P .. 'nodes', q.name, incarnation)
  return incarnation
end
local worker = q.name .. '.' .. incarnation
redis.call('ZADD', P .. 'workers', now + q.lease_ms, worker)
redis.call('HSET', P .. 'names', incarnation, q.name)
redis.call('HSET', P .. 'worker:' .. worker, 'started_ms', string.format('%.0f', now), unpack(q.info))
if math.floor(q.lease_ms / 2) > tonumber(redis.call('HGET', KEYS[1], 'quiet_ms') or '0') then
  redis.call('HSET', KEYS[1], 'quiet_ms', math.floor(q.lease_ms / 2))
end
return incarnation
