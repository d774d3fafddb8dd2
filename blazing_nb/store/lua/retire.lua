#!lua flags=allow-oom
-- DOES    a worker leaves: what is still pending for it goes back through rescue, its consumers are dropped.
-- KEYS    1 meta (hash); derives workers, lost (zset), rescue:<worker> (zset), and what rescue touches
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker}
-- REPLY   1 where it was registered, else 0
-- REJECT  BZARG worker=
-- COST    O(segments), in bounded steps
-- KEEPS   nothing pending is dropped with its consumer
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
local q = cmsgpack.unpack(ARGV[2])
if not q.worker or q.worker == '' then return redis.error_reply('BZARG worker=') end
local now = clock(ARGV[1])
if not redis.call('ZSCORE', P .. 'workers', q.worker) then return 0 end
lose(q.worker, now)
rescue(now)
settle(now, redis.call('HGET', KEYS[1], 'unsettled'))
return 1
