#!lua flags=allow-oom
-- DOES    tells workers something, all or some: their own bell rings, their next turn answers it.
-- KEYS    1 meta (hash); derives workers (zset), cancels:<worker>, bell:@<worker> (list)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {text: "accept", "drain", "hold <ms>" or "close <ms>", workers: {consumer, ...}, none for all}
-- REPLY   workers that were told
-- REJECT  BZARG text=
-- COST    O(workers)
-- KEEPS   only registered workers are told; what is said again replaces what was not heard yet
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if q.text == '' then return redis.error_reply('BZARG text=') end
clock(ARGV[1])
local told = 0
for _, worker in ipairs(#q.workers > 0 and q.workers or redis.call('ZRANGE', P .. 'workers', 0, -1)) do
  if redis.call('ZSCORE', P .. 'workers', worker) then
    local list, bell = P .. 'cancels:' .. worker, P .. 'bell:@' .. worker
    redis.call('LREM', list, 0, '@' .. q.text)
    redis.call('RPUSH', list, '@' .. q.text)
    redis.call('PEXPIRE', list, 3600000)
    redis.call('RPUSH', bell, '1')
    redis.call('PEXPIRE', bell, 10000)
    told = told + 1
  end
end
return told
