#!lua
-- DOES    says when a schedule is due next, pauses it, or removes it.
-- KEYS    1 meta (hash); derives sched:<name> (hash), schedules (zset)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {name, due_ms (0: paused, -1: removed)}
-- REPLY   1, or 0 where there is none of that name
-- REJECT  BZARG due_ms=<n>
-- COST    O(log schedules)
-- KEEPS   what was fired before goes on
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if q.due_ms < -1 then return redis.error_reply('BZARG due_ms=' .. q.due_ms) end
clock(ARGV[1])
local key = P .. 'sched:' .. q.name
if redis.call('EXISTS', key) == 0 then return 0 end
if q.due_ms == -1 then
  redis.call('ZREM', P .. 'schedules', q.name)
  return redis.call('DEL', key)
end
redis.call('ZADD', P .. 'schedules', q.due_ms > 0 and string.format('%.0f', q.due_ms) or '+inf', q.name)
return 1
