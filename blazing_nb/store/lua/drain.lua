#!lua flags=allow-oom
-- DOES    has the app refuse new operations (drain), or accept them again.
-- KEYS    1 meta (hash); its field draining
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {draining: 0 | 1}
-- REPLY   1 where that changed something, else 0
-- REJECT  none
-- COST    O(1)
-- KEEPS   what was stored goes on, is retried and retries anew; a repeated enqueue of what was stored is still known
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
clock(ARGV[1])
if q.draining == 1 then return redis.call('HSETNX', KEYS[1], 'draining', 1) end
return redis.call('HDEL', KEYS[1], 'draining')
