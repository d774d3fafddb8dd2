#!lua flags=allow-oom
-- DOES    appends a node's next operations to one of its segments, and records them in a named batch.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), segs (zset), last (hash), active:<step>:<prio> (zset),
-- KEYS    uniq:<step>:<key> (string), parked:<step> (zset), out:<chunk> (hash), batch:<name> (list), batches (zset), ahead (hash), bell:<step> (list), stats:<step> (hash), ts (stream)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {step, prio, node, incarnation (text), first (counter), before (its writer's last counter in that segment, 0: unknown), cap (0: none), batch, offset,
-- ARGV    delay_ms, at_ms, expires_ms, expires_at_ms (0: none), key ("": none; one operation, in a segment of the store's)}
-- ARGV    joins (of delayed ones): {{place in this call from 0, groups, members as of `join`, {} where they were registered by it}, ...}
-- ARGV    3... payloads, one an operation
-- REPLY   "added" | "known" (stored before: a repeated call) | "fenced" (a newer incarnation wrote; never stored);
-- REPLY   with a key: the operation's id, given by the store
-- REJECT  BZROLLBACK missing=<counters that the store has lost>; BZRESTORED app=restored (an older state came back, and nobody has decided yet); BZDRAIN app=draining; BZFULL depth=<entries> cap=<entries>; BZBATCH offset=<asked> total=<stored>;
-- REJECT  BZJOIN registered=<n> total=<n> (register again); BZARG payloads=0
-- COST    O(operations + members)
-- KEEPS   an operation with a join exists and its join is sealed, or neither; ids of a segment only grow; a call is stored whole or not at all, once
-- An ordinary operation needs no join: what makes them is made where one is needed.
-- @defer schedule lacks await settle overtake
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _segment
-- @include _known
-- @deferred
-- @include _park
-- @include _tell
-- @include _next
-- @include _keep
-- @include _mourn
-- @include _child
-- @include _notify
-- @include _hear
-- @include _finish
-- @include _conclude
-- @include _cancel
-- @include _hold
-- @include _join
-- @include _expect
-- @include _enroll
-- @include _settle
-- @include _await
-- @include _ahead
-- @end
local q = cmsgpack.unpack(ARGV[2])
local n = #ARGV - 2
if n == 0 then return redis.error_reply('BZARG payloads=0') end
local now = clock(ARGV[1])
local uniq = P .. 'uniq:' .. q.step .. ':' .. q.key
if q.key ~= '' then
  local found = redis.call('GET', uniq)
  if found then return found end
  q.node = OWN
  q.incarnation, q.first = own_id(now)
end
local name = q.step .. ':' .. q.prio .. ':' .. q.node
local seg, batch = P .. 'seg:' .. name, P .. 'batch:' .. q.batch

local function id_at(counter) return q.incarnation .. '-' .. string.format('%.0f', counter) end

local before = q.key == '' and stored(q, name, seg)
if before then return before end
local restored, draining = unpack(redis.call('HMGET', KEYS[1], 'restored', 'draining'))
if restored then return redis.error_reply('BZRESTORED app=restored') end
if draining then return redis.error_reply('BZDRAIN app=draining') end
local depth = redis.call('XLEN', seg)
if q.cap > 0 and depth + n > q.cap then return redis.error_reply('BZFULL depth=' .. depth .. ' cap=' .. q.cap) end
if q.batch ~= '' then
  local item = redis.call('LINDEX', batch, -1)
  local last = item and cmsgpack.unpack(item) or {0, 0}
  local total = last[1] + last[2]
  if total ~= q.offset then return redis.error_reply('BZBATCH offset=' .. q.offset .. ' total=' .. total) end
end
for _, row in ipairs(q.joins) do
  local why = lacks(name .. ':' .. id_at(q.first + row[1]), '0', row[2], row[3])
  if why then return redis.error_reply('BZJOIN ' .. why) end
end

local at = string.format('%.0f', now)
register(name, at)
local deadline = q.expires_at_ms > 0 and q.expires_at_ms or (q.expires_ms > 0 and now + q.expires_ms)
local extra = {}
if deadline then extra[1], extra[2] = 'x', string.format('%.0f', deadline) end
if q.key ~= '' then extra[#extra + 1], extra[#extra + 2] = 'k', q.key end
for i = 1, n do redis.call('XADD', seg, id_at(q.first + i - 1), 'p', ARGV[i + 2], 't', at, unpack(extra)) end
if q.prio == 'd' then
  local due, waits = q.at_ms > 0 and q.at_ms or now + q.delay_ms, {}
  for _, row in ipairs(q.joins) do waits[row[1] + 1] = deadline or NEVER end
  for i = 1, n do schedule(name, id_at(q.first + i - 1), waits[i] or due) end
  for _, row in ipairs(q.joins) do await(name .. ':' .. id_at(q.first + row[1]), '0', row[2], row[3], due, now) end
  settle(now)
else
  activate(name)
end
if q.batch ~= '' then
  redis.call('RPUSH', batch, cmsgpack.pack({q.offset, n, name, q.incarnation, q.first}))
  redis.call('ZADD', P .. 'batches', at, q.batch)
end
tally(q.step, {enqueued = n, scheduled = q.prio == 'd' and n or nil}, now)
if q.key == '' and redis.call('EXISTS', P .. 'ahead') == 1 then overtake(name, q.first, n, id_at, now) end
ring(q.step)
if q.key == '' then return 'added' end
redis.call('SET', uniq, name .. ':' .. id_at(q.first))
return name .. ':' .. id_at(q.first)
