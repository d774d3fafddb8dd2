#!lua
-- DOES    records a schedule, in place of the one of that name where it differs.
-- KEYS    1 meta (hash); derives sched:<name> (hash), schedules (zset)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {name, version, step, prio, due_ms, expires_ms (0: none)}
-- ARGV    3 the sealed record
-- ARGV    4 the envelope of its calls
-- REPLY   1 where it is new or differs, 0 where it was so before
-- REJECT  BZARG name=
-- COST    O(log schedules)
-- KEEPS   a schedule that is defined again as it was keeps its next tick, stays paused, and has the new signature
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if q.name == '' then return redis.error_reply('BZARG name=') end
clock(ARGV[1])
local key = P .. 'sched:' .. q.name
if redis.call('HGET', key, 'version') == q.version then
  redis.call('HSET', key, 'record', ARGV[3], 'payload', ARGV[4])
  return 0
end
redis.call('DEL', key)
redis.call('HSET', key, 'version', q.version, 'step', q.step, 'prio', q.prio, 'expires_ms', string.format('%.0f', q.expires_ms),
  'record', ARGV[3], 'payload', ARGV[4])
redis.call('ZADD', P .. 'schedules', string.format('%.0f', q.due_ms), q.name)
return 1
