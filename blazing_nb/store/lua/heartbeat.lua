#!lua flags=allow-oom
-- DOES    renews a worker's lease, records what it runs, and rescues from workers whose lease is over.
-- KEYS    1 meta (hash); derives workers, lost (zset), worker:<id> (hash), and what rescue touches
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, lease_ms, info: {field, value, ...}}
-- REPLY   {lost: 0 | 1, lease end ms, operations rescued}
-- REJECT  BZARG lease_ms=<n>
-- COST    O(1) + bounded rescue
-- KEEPS   a worker that was given up is not revived
-- @include _clock
-- @include _stats
-- @include _bell
-- @include _finish
-- @include _park
-- @include _rescue
local q = cmsgpack.unpack(ARGV[2])
if q.lease_ms < 1 then return redis.error_reply('BZARG lease_ms=' .. q.lease_ms) end
local now = clock(ARGV[1])
local known = redis.call('ZSCORE', P .. 'workers', q.worker)
if known then
  redis.call('ZADD', P .. 'workers', now + q.lease_ms, q.worker)
  if #q.info > 0 then redis.call('HSET', P .. 'worker:' .. q.worker, unpack(q.info)) end
end
return {known and 0 or 1, known and now + q.lease_ms or 0, rescue(now)}
