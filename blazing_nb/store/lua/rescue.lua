#!lua flags=allow-oom
-- DOES    gives the claims of workers whose lease is over back, at most 256 operations a call.
-- KEYS    1 meta (hash); derives workers, lost (zset), rescue:<worker> (zset), seg:<segment> (stream), parked:<step> (zset),
-- KEYS    live:<operation> (hash), bell:<step> (list), and what finish touches
-- ARGV    1 now_ms, empty for the server's TIME
-- REPLY   operations moved
-- REJECT  BZARG never: there is nothing to refuse
-- COST    O(operations moved), at most 256, + O(64 segments)
-- KEEPS   a claim is given back once; a consumer is dropped only when nothing is pending for it
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
local now = clock(ARGV[1])
local moved = rescue(now)
settle(now, redis.call('HGET', KEYS[1], 'unsettled'))
return moved
