#!lua flags=allow-oom
-- DOES    pauses a step (claims skip it) or resumes it (and rings).
-- KEYS    1 meta (hash); derives paused (set), bell:<step> (list)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {step, paused: 0 | 1}
-- REPLY   1 where that changed something, else 0
-- REJECT  BZARG step=
-- COST    O(1)
-- KEEPS   what is claimed goes on; nothing waiting is touched
-- @include _clock
-- @include _moving
-- @include _bell
local q = cmsgpack.unpack(ARGV[2])
if q.step == '' then return redis.error_reply('BZARG step=') end
clock(ARGV[1])
if q.paused == 1 then return redis.call('SADD', P .. 'paused', q.step) end
ring(q.step)
return redis.call('SREM', P .. 'paused', q.step)
