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
if #q > 1000 then return redis.error_reply('BZARG operations=' .. #q) end
local now, out = clock(ARGV[1]), {}

for i, op in ipairs(q) do out[i] = cancel(op[1], op[2], op[3], now, ARGV[3] == '1') end
settle(now, redis.call('HGET', KEYS[1], 'unsettled'))
return out
