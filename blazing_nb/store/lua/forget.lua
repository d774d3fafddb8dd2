#!lua flags=allow-oom
-- DOES    drops the outcomes of finished operations, and the record of their batch.
-- KEYS    1 meta (hash); derives out:<chunk>, whose:<chunk>, live:<operation> (hash), log:<operation> (stream), failed:<step>, chunks, expiring (zset), batch:<name> (list), batches (zset)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {operations: {{segment, incarnation (text), counter}, ...}, batch ("": none)}
-- REPLY   outcomes dropped
-- REJECT  BZARG operations=<n> (over 1,000)
-- COST    O(operations)
-- KEEPS   what is not final stays; a dropped operation never comes back: its segment's last id only grows
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if #q.operations > 1000 then return redis.error_reply('BZARG operations=' .. #q.operations) end
clock(ARGV[1])
local dropped = 0
for _, op in ipairs(q.operations) do
  local name, incarnation, counter = unpack(op)
  local step, node = string.match(name, '^([^:]*):[^:]*:(.*)$')
  local title = node .. ':' .. incarnation .. ':' .. string.format('%d', math.floor(counter / 128))
  local text = name .. ':' .. incarnation .. '-' .. string.format('%.0f', counter)
  if redis.call('HDEL', P .. 'out:' .. title, string.format('%d', counter % 128)) == 1 then
    dropped = dropped + 1
    redis.call('DEL', P .. 'live:' .. text, P .. 'log:' .. text, P .. 'hist:' .. text)
    redis.call('ZREM', P .. 'failed:' .. step, text)
  end
  if redis.call('EXISTS', P .. 'out:' .. title) == 0 then
    redis.call('DEL', P .. 'whose:' .. title)
    redis.call('ZREM', P .. 'chunks', title)
    redis.call('ZREM', P .. 'expiring', title)
  end
end
if q.batch ~= '' then
  redis.call('DEL', P .. 'batch:' .. q.batch)
  redis.call('ZREM', P .. 'batches', q.batch)
end
return dropped
