#!lua flags=allow-oom
-- DOES    gives back what a worker claimed and will not run: due now, counted as a release, not as a death or a failure. What
-- DOES    was to be cancelled ends so instead.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), parked:<step>, need:<python>:<step> (zset), needs, live:<operation> (hash),
-- KEYS    bell:<step> (list), and what finish touches
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, groups: {{segment, ids, claims}, ...}, delay_ms, need: the Python that can load them or "", reason}
-- REPLY   operations released
-- REJECT  BZARG delay_ms=<n>
-- COST    O(operations)
-- KEEPS   only what this worker holds under this claim is released
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _tell
-- @include _next
-- @include _keep
-- @include _mourn
-- @include _child
-- @include _notify
-- @include _hear
-- @include _finish
-- @include _park
-- @include _conclude
-- @include _cancel
-- @include _hold
-- @include _join
-- @include _expect
-- @include _enroll
-- @include _settle
local q = cmsgpack.unpack(ARGV[2])
if q.delay_ms < 0 then return redis.error_reply('BZARG delay_ms=' .. q.delay_ms) end
local now, released = clock(ARGV[1]), 0
for _, group in ipairs(q.groups) do
  local name, ids, claims = unpack(group)
  local step, n, cancelled = string.match(name, '^[^:]*'), 0, 0
  for i, id in ipairs(ids) do
    local row = redis.pcall('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1, q.worker)[1] -- the segment may be gone
    if row and row[4] == claims[i] then
      local live = P .. 'live:' .. name .. ':' .. id
      local entry = redis.call('HEXISTS', live, 'cancel') == 1 and redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
      if entry then
        conclude(name, entry, row, 'C', 'OperationCancelled', 'cancelled; its worker gave it back', now)
        cancelled = cancelled + 1
      else
        redis.call('HINCRBY', live, 'releases', 1)
        redis.call('HSET', live, 'release:' .. row[4], string.format('%.0f;%s;%.0f;%s', now, q.worker, now - row[3], q.reason))
        if q.need ~= '' then redis.call('HSET', live, 'need', q.need) end
        park(name, id, now + q.delay_ms)
        n = n + 1
      end
    end
  end
  if n + cancelled > 0 then
    tally(step, {released = n, cancelled = cancelled, flight = -n - cancelled}, now)
    ring(step)
  end
  released = released + n
end
settle(now, redis.call('HGET', KEYS[1], 'unsettled'))
return released
