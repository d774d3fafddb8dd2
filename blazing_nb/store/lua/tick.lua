#!lua
-- DOES    fires ticks of a schedule: enqueues an operation for each, in the store's own segment, and moves on to the next tick.
-- KEYS    1 meta (hash); derives sched:<name> (hash), schedules (zset), uniq:<step>:<key> (string), nodes (hash), segs (zset), last (hash),
-- KEYS    seg:<segment> (stream), active:<step>:<prio> (zset), bell:<step> (list), stats:<step> (hash), ts (stream)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {name, version, due_ms: what it was due at, ticks: {ms, ...}, next_ms (0: never again)}
-- REPLY   operations enqueued; 0 where another worker was first, it is paused or removed, or the app drains
-- REJECT  BZARG ticks=<n> (over 100)
-- COST    O(ticks)
-- KEEPS   one operation a tick: what is due has changed with the first call; and the tick is the operation's idempotency key
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _segment
local q = cmsgpack.unpack(ARGV[2])
if #q.ticks > 100 then return redis.error_reply('BZARG ticks=' .. #q.ticks) end
local now, key, fired = clock(ARGV[1]), P .. 'sched:' .. q.name, 0
local due = tonumber(redis.call('ZSCORE', P .. 'schedules', q.name) or nil)
local version, step, prio, payload, expires = unpack(redis.call('HMGET', key, 'version', 'step', 'prio', 'payload', 'expires_ms'))
if due ~= q.due_ms or version ~= q.version or redis.call('HEXISTS', KEYS[1], 'draining') == 1 then return 0 end

local name, at = step .. ':' .. prio .. ':' .. OWN, string.format('%.0f', now)
local deadline = tonumber(expires) > 0 and string.format('%.0f', now + expires)
for _, tick in ipairs(q.ticks) do
  local mark = '@' .. q.name .. '@' .. string.format('%.0f', tick)
  local uniq = P .. 'uniq:' .. step .. ':' .. mark
  if redis.call('EXISTS', uniq) == 0 then
    local incarnation, counter = own_id(now)
    local id = incarnation .. '-' .. string.format('%.0f', counter)
    register(name, at)
    local extra = deadline and {'x', deadline} or {}
    redis.call('XADD', P .. 'seg:' .. name, id, 'p', payload, 't', at, 'o', step .. '|@' .. q.name, 'k', mark, unpack(extra))
    redis.call('SET', uniq, name .. ':' .. id)
    fired = fired + 1
  end
end
if q.next_ms > 0 then redis.call('ZADD', P .. 'schedules', string.format('%.0f', q.next_ms), q.name)
else redis.call('ZADD', P .. 'schedules', '+inf', q.name) end
if fired > 0 then
  redis.call('HINCRBY', key, 'fired', fired)
  redis.call('HSET', key, 'last_ms', string.format('%.0f', q.ticks[#q.ticks]))
  activate(name)
  tally(step, {enqueued = fired}, now)
  ring(step)
end
return fired
