#!lua
-- DOES    appends a node's next operations to one of its segments, and records them in a named batch.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), segs (zset), last (hash), active:<step>:<prio> (zset),
-- KEYS    out:<chunk> (hash), batch:<name> (list), bell:<step> (list), stats:<step> (hash), ts (stream)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {step, prio, node, incarnation (text), first (counter), cap (0: none), batch, offset}
-- ARGV    3... payloads, one an operation
-- REPLY   "added" | "known" (stored before: a repeated call) | "fenced" (a newer incarnation wrote; never stored)
-- REJECT  BZFULL depth=<entries> cap=<entries>; BZBATCH offset=<asked> total=<stored>; BZARG payloads=0
-- COST    O(operations)
-- KEEPS   ids of a segment only grow; a call is stored whole or not at all, once
-- @include _clock
-- @include _stats
-- @include _bell
local q = cmsgpack.unpack(ARGV[2])
local n = #ARGV - 2
if n == 0 then return redis.error_reply('BZARG payloads=0') end
local name = q.step .. ':' .. q.prio .. ':' .. q.node
local seg, batch = P .. 'seg:' .. name, P .. 'batch:' .. q.batch

local function id_at(counter) return q.incarnation .. '-' .. string.format('%.0f', counter) end

local function stored()
  local last = redis.call('HGET', P .. 'last', name) or '0-0'
  if redis.call('EXISTS', seg) == 1 then last = redis.call('XINFO', 'STREAM', seg)[8] end
  local incarnation, counter = string.match(last, '^(%d+)%-(%d+)$')
  if tonumber(incarnation) < tonumber(q.incarnation) then return false end
  if incarnation == q.incarnation then return tonumber(counter) >= q.first and 'known' end
  local out = P .. 'out:' .. q.node .. ':' .. q.incarnation .. ':' .. string.format('%d', math.floor(q.first / 128))
  local found = #redis.call('XRANGE', seg, id_at(q.first), id_at(q.first)) == 1
    or redis.call('HEXISTS', out, string.format('%d', q.first % 128)) == 1
  return found and 'known' or 'fenced'
end

local before = stored()
if before then return before end
local depth = redis.call('XLEN', seg)
if q.cap > 0 and depth + n > q.cap then return redis.error_reply('BZFULL depth=' .. depth .. ' cap=' .. q.cap) end
if q.batch ~= '' then
  local total = 0
  local item = redis.call('LINDEX', batch, -1)
  if item then item = cmsgpack.unpack(item); total = item[1] + item[2] end
  if total ~= q.offset then return redis.error_reply('BZBATCH offset=' .. q.offset .. ' total=' .. total) end
end

local now = clock(ARGV[1])
local at = string.format('%.0f', now)
if redis.call('ZADD', P .. 'segs', at, name) == 1 then
  redis.call('XGROUP', 'CREATE', seg, 'w', '0', 'MKSTREAM')
  local pruned = redis.call('HGET', P .. 'last', name)
  if pruned then redis.call('XSETID', seg, pruned) end
end
for i = 1, n do redis.call('XADD', seg, id_at(q.first + i - 1), 'p', ARGV[i + 2], 't', at) end
redis.call('ZADD', P .. 'active:' .. q.step .. ':' .. q.prio, 'NX', redis.call('HINCRBY', KEYS[1], 'turn', 1), name)
if q.batch ~= '' then redis.call('RPUSH', batch, cmsgpack.pack({q.offset, n, name, q.incarnation, q.first})) end
tally(q.step, {enqueued = n}, now)
ring(q.step)
return 'added'
