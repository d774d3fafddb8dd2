#!lua
-- DOES    appends a message to a channel or a log, once a (writer, number).
-- KEYS    1 the channel (stream); derives <KEYS[1]>:w (hash)
-- ARGV    1 request: {writer (text), n: the writer's count, origin, retention_ms (-1: as it is; 0: for ever), fallback_ms: where none was set}
-- ARGV    2 the sealed value
-- REPLY   its position
-- REJECT  BZARG n=<n>; BZMOVING slot= (its two keys are being handed over to another node: ask again)
-- COST    O(1), and 64 old messages at most
-- KEEPS   a repeated call answers the first one's position
-- @include _append
local q = cmsgpack.unpack(ARGV[1])
if q.n < 1 then return redis.error_reply('BZARG n=' .. q.n) end
local beside = KEYS[1] .. ':w'
if type(redis.pcall('EXISTS', KEYS[1], beside)) == 'table' then return redis.error_reply('BZMOVING slot=moving') end
local n, position = string.match(redis.call('HGET', beside, q.writer) or '0 0-0', '^(%d+) (.*)$')
if tonumber(n) >= q.n then return position end
if q.retention_ms >= 0 then redis.call('HSET', beside, '@retention', string.format('%.0f', q.retention_ms)) end
position = append(KEYS[1], q.origin, ARGV[2], q.fallback_ms)
redis.call('HSET', beside, q.writer, string.format('%.0f', q.n) .. ' ' .. position)
return position
