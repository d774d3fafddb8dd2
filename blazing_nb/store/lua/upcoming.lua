#!lua flags=no-writes
-- DOES    answers the schedules that are due, or will be within a second: a worker fires them.
-- KEYS    1 meta (hash); derives sched:<name> (hash), schedules (zset), clock
-- ARGV    1 now_ms, empty for the server's TIME
-- REPLY   {now_ms, {{name, due ms, record}, ...}}, at most 100
-- REJECT  BZARG never: there is nothing to refuse
-- COST    O(schedules that are due)
-- KEEPS   reads only
local P = string.sub(KEYS[1], 1, -5)
-- @include _moving
-- @include _now
local flat, rows = redis.call('ZRANGEBYSCORE', P .. 'schedules', '-inf', now + 1000, 'WITHSCORES', 'LIMIT', 0, 100), {}
for i = 1, #flat, 2 do
  rows[#rows + 1] = {flat[i], tonumber(flat[i + 1]), redis.call('HGET', P .. 'sched:' .. flat[i], 'record') or ''}
end
return {now, rows}
