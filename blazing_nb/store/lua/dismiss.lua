#!lua flags=allow-oom
-- DOES    dismisses the app's workers: remembers when, so that supervisors that hear of it late end what was ordered before.
-- KEYS    1 meta (hash)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {known_ms: the last dismissal that the caller knows of}
-- REPLY   ms of the last dismissal
-- REJECT  BZARG known_ms=
-- COST    O(1)
-- KEEPS   said again it is the same dismissal; a later one has a later moment
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if q.known_ms < 0 then return redis.error_reply('BZARG known_ms=' .. q.known_ms) end
local now, last = clock(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'dismissed') or '0')
if last > q.known_ms then return last end
last = math.max(now, last + 1)
redis.call('HSET', KEYS[1], 'dismissed', string.format('%.0f', last))
return last
