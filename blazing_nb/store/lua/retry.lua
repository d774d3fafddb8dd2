#!lua
-- DOES    enqueues operations that ended without success anew, each once, in the store's own segments.
-- KEYS    1 meta (hash); derives live:<operation> (hash), marks (set), failed:<step> (zset), nodes (hash), segs (zset), last (hash),
-- KEYS    seg:<segment> (stream), active:<step>:<prio> (zset), bell:<step> (list), stats:<step> (hash), ts (stream)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {{segment, incarnation (text), counter}, ...}
-- REPLY   {the new operation's id, or "" where no arguments are kept (it succeeded, goes on, or was forgotten), ...}
-- REJECT  BZARG operations=<n> (over 1,000)
-- COST    O(operations)
-- KEEPS   final stays final: a retry is another operation; a second retry of the same one answers the first's
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _segment
local q = cmsgpack.unpack(ARGV[2])
if #q > 1000 then return redis.error_reply('BZARG operations=' .. #q) end
local now, out = clock(ARGV[1]), {}

local function retry(name, op)
  local live = P .. 'live:' .. op
  local payload, origin, retried = unpack(redis.call('HMGET', live, 'payload', 'origin', 'retried'))
  if retried then return retried end
  if not payload then return '' end
  local step, prio = string.match(name, '^([^:]*):([^:]*):')
  local incarnation, counter = own_id(now)
  local target = step .. ':' .. (prio == 'd' and 'n' or prio) .. ':' .. OWN
  local id, at = incarnation .. '-' .. string.format('%.0f', counter), string.format('%.0f', now)
  register(target, at)
  redis.call('XADD', P .. 'seg:' .. target, id, 'p', payload, 't', at, 'o', origin)
  activate(target)
  redis.call('HSET', live, 'retried', target .. ':' .. id)
  redis.call('HSET', P .. 'live:' .. target .. ':' .. id, 'retry_of', op)
  redis.call('SADD', P .. 'marks', target .. ':' .. id)
  redis.call('ZREM', P .. 'failed:' .. step, op)
  tally(step, {enqueued = 1}, now)
  ring(step)
  return target .. ':' .. id
end

for i, op in ipairs(q) do
  out[i] = retry(op[1], op[1] .. ':' .. op[2] .. '-' .. string.format('%.0f', op[3]))
end
return out
