#!lua
-- DOES    records a step: its signed code, its options; wakes the workers when something is new.
-- KEYS    1 meta (hash); derives code:<hash> (string), steps, limits (hash), bell:<step>, bell:@<worker> (list), workers (zset)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {step, hash (hex), limits: "<in flight>;<ms between two>;<burst>" or ""}
-- ARGV    3 the sealed code record
-- ARGV    4 the step's options
-- REPLY   1 where something changed, 0 where all was known
-- REJECT  BZARG step=
-- COST    O(workers) when new, else O(1)
-- KEEPS   code records are addressed by their content; one that is signed with another key replaces the same one
-- @include _clock
-- @include _moving
-- @include _bell
local q = cmsgpack.unpack(ARGV[2])
if q.step == '' then return redis.error_reply('BZARG step=') end
clock(ARGV[1])
if redis.call('GET', P .. 'code:' .. q.hash) ~= ARGV[3] then redis.call('SET', P .. 'code:' .. q.hash, ARGV[3]) end
if (redis.call('HGET', P .. 'limits', q.step) or '') ~= q.limits then
  if q.limits == '' then redis.call('HDEL', P .. 'limits', q.step) else redis.call('HSET', P .. 'limits', q.step, q.limits) end
  ring(q.step)
end
if redis.call('HGET', P .. 'steps', q.step) == ARGV[4] then return 0 end
redis.call('HSET', P .. 'steps', q.step, ARGV[4])
redis.call('HINCRBY', KEYS[1], 'version', 1)
ring_workers()
return 1
