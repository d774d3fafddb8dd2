#!lua flags=allow-oom
-- DOES    renews a worker's lease, records what it runs and how far it came; rescues and sweeps.
-- KEYS    1 meta (hash); derives workers, lost (zset), worker:<id>, live:<operation> (hash), marks (set), segs (zset),
-- KEYS    seg:<segment> (stream), last (hash), and what rescue touches
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, lease_ms, info: {field, value, ...}, progress: {{segment, id, claims, text}, ...}}
-- REPLY   {lost: 0 | 1, lease end ms, operations rescued}
-- REJECT  BZARG lease_ms=<n>
-- COST    O(operations with progress) + bounded rescue and sweep
-- KEEPS   a worker that was given up is not revived; progress of a claim that is not the worker's is dropped
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _tell
-- @include _next
-- @include _keep
-- @include _mourn
-- @include _child
-- @include _notify
-- @include _hear
-- @include _finish
-- @include _park
-- @include _conclude
-- @include _cancel
-- @include _hold
-- @include _join
-- @include _expect
-- @include _enroll
-- @include _settle
-- @include _rescue
-- @include _sweep
-- @include _report
local q = cmsgpack.unpack(ARGV[2])
if q.lease_ms < 1 then return redis.error_reply('BZARG lease_ms=' .. q.lease_ms) end
local now = clock(ARGV[1])
local known = redis.call('ZSCORE', P .. 'workers', q.worker)
if known then
  redis.call('ZADD', P .. 'workers', now + q.lease_ms, q.worker)
  if #q.info > 0 then redis.call('HSET', P .. 'worker:' .. q.worker, unpack(q.info)) end
end
report(q.worker, q.progress)
local moved = rescue(now)
settle(now, redis.call('HGET', KEYS[1], 'unsettled'))
renew(now)
sweep(now)
return {known and 0 or 1, known and now + q.lease_ms or 0, moved}
