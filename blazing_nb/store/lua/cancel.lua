#!lua flags=allow-oom
-- DOES    ends operations that wait or are parked as CANCELLED, and asks the workers of claimed ones to stop.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), parked:<step>, solo,
-- KEYS    need:<python>:<step> (zset), needs, live:<operation> (hash), marks (set), cancels:<worker> (list),
-- KEYS    bell:@<worker> (list), and what finish touches
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {{segment, incarnation (text), counter}, ...}
-- ARGV    3 "1": leaves claimed ones alone; else empty
-- REPLY   {"CANCELLED" (ended now) | "ASKED" (its worker was asked) | "CLAIMED" (left alone) | "FINAL" (too late) | "ABSENT", ...}
-- REJECT  BZARG operations=<n> (over 1,000)
-- COST    O(operations)
-- KEEPS   whichever comes first wins, a commit or a cancel; final stays final
-- @include _clock
-- @include _stats
-- @include _bell
-- @include _tell
-- @include _next
-- @include _keep
-- @include _notify
-- @include _finish
-- @include _park
-- @include _conclude
-- @include _hold
-- @include _join
-- @include _settle
local q = cmsgpack.unpack(ARGV[2])
if #q > 1000 then return redis.error_reply('BZARG operations=' .. #q) end
local now, out, hists = clock(ARGV[1]), {}, {}

local function ask(name, id, worker)
  redis.call('HSET', P .. 'live:' .. name .. ':' .. id, 'cancel', '1')
  redis.call('SADD', P .. 'marks', name .. ':' .. id)
  redis.call('RPUSH', P .. 'cancels:' .. worker, name .. ':' .. id)
  redis.call('PEXPIRE', P .. 'cancels:' .. worker, 3600000)
  redis.call('RPUSH', P .. 'bell:@' .. worker, '1')
  redis.call('PEXPIRE', P .. 'bell:@' .. worker, 10000)
  return 'ASKED'
end

local function cancel(name, incarnation, counter)
  local id, node = incarnation .. '-' .. string.format('%.0f', counter), string.match(name, '^[^:]*:[^:]*:(.*)$')
  local chunk = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. string.format('%d', math.floor(counter / 128))
  if redis.call('HEXISTS', chunk, string.format('%d', counter % 128)) == 1 then return 'FINAL' end
  local entry = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
  if not entry then return 'ABSENT' end
  local row = redis.call('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1)[1]
  if row and row[2] ~= '@parked' then return ARGV[3] == '1' and 'CLAIMED' or ask(name, id, row[2]) end
  conclude(name, entry, row, 'C', 'OperationCancelled', 'cancelled before it ran', now)
  local step = string.match(name, '^[^:]*')
  hists[step] = (hists[step] or 0) + 1
  return 'CANCELLED'
end

for i, op in ipairs(q) do out[i] = cancel(op[1], op[2], op[3]) end
for step, n in pairs(hists) do tally(step, {cancelled = n}, now) end
settle(now)
return out
