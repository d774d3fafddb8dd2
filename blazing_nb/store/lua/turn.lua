#!lua flags=allow-oom
-- DOES    commits what a worker finished, under the fence, and claims what it has room for: the hot path.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), active:<step>:<prio> (zset), parked:<step>, solo,
-- KEYS    need:<python>:<step> (zset), limits, rate, needs (hash),
-- KEYS    drain (string), workers, lost (zset), failed:<step>, expiring (zset), marks (set), live:<operation> (hash),
-- KEYS    out:<chunk> (hash), chunks (zset), done:<node>:<incarnation> (stream), stats:<step> (hash), ts (stream), bell:<step> (list);
-- KEYS    for what waits settled (list), awaited (set), next:<chunk>, joins (zset), join:<operation> (hash);
-- KEYS    for what follows nodes (hash), segs (zset), last (hash); for workflows hist:<operation>, wait:<operation> (hash)
-- KEYS    for effects shared:<space>:<kind>:<name> (hash, stream), chan:<name> (stream), and beside streams <stream>:w (hash)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, incarnation (text), groups, lanes, held: operations that it keeps, python: its minor version}
-- ARGV    groups: {{segment, held, retention_ms, ids (ascending), claims, run_us, enqueued_ms, what follows}, ...}
-- ARGV    what follows a success: {{index in the group, number of its payload from 1, step, prio, stages left with it,
-- ARGV    the flow's first operation ("": this one), delay_ms, deadline_ms from now (0: none)}, ...}; what a workflow that
-- ARGV    waits (W, see _wait) calls: the same, with the call's position and the digest of its arguments in fifth and sixth place
-- ARGV    lanes: {{budget: 0..256, {step, ...}}, ...}
-- ARGV    3... one an id, in the order of the groups: its record (status letter, token, outcome), or what happens instead (R: see _again,
-- ARGV    W: _wait, J: _suspend); then the payloads of what follows; then the values of effects
-- ARGV    effects: {segment:id = {{verb, key without prefix, amount (text) or index of its value in ARGV, origin}, ...}}, or none
-- REPLY   {now_ms, version of the steps, accepted, lost ids, lease_lost: 0 | 1, next due ms or 0,
-- REPLY   {{segment, claims, deaths + releases + waits, {{id, {"p", payload, "t", enqueued_ms, ...}}, ...}}, ...},
-- REPLY   operations whose cancelling was asked for, alone: 0 | 1 (claim nothing until you hold nothing)}
-- REJECT  BZARG worker=
-- COST    O(active segments served + operations)
-- KEEPS   one commit an operation, by its last claim (I3, I4); an outcome, its notice, its effects (I10) and what follows (I11) appear together
-- An ordinary operation meets none of these: they are made where one is needed.
-- @defer told park mourn tell hand_on end_joins close settle suspend alone again by_index follow announce wait effect
-- What this call says: the place of the payloads of what follows, how many were written by segment, and by operation
-- what it asked to be done: {{verb, key, amount (text) or index of the value in ARGV, origin}, ...}.
local PAYLOADS, WRITTEN, EFFECTS = 0, {}, false
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _keep
-- @include _notify
-- @include _finish
-- @include _limit
-- @include _expire
-- @include _due
-- @include _take
-- @include _claim
-- @include _owned
-- @include _commit
-- @include _rescue
-- @deferred
-- @include _tell
-- @include _mourn
-- @include _next
-- @include _child
-- @include _hear
-- @include _park
-- @include _conclude
-- @include _cancel
-- @include _hold
-- @include _join
-- @include _expect
-- @include _enroll
-- @include _settle
-- @include _await
-- @include _suspend
-- @include _segment
-- @include _alone
-- @include _again
-- @include _follow
-- @include _wait
-- @include _append
-- @include _effect
-- @end
local q = cmsgpack.unpack(ARGV[2])
if not q.worker or q.worker == '' then return redis.error_reply('BZARG worker=') end
local now = clock(ARGV[1])
local accepted, lost, body = 0, {}, 3
for _, group in ipairs(q.groups) do PAYLOADS = PAYLOADS + #group[4] end
PAYLOADS = PAYLOADS + 2
EFFECTS = q.effects
for _, group in ipairs(q.groups) do
  accepted = accepted + commit(q.worker, q.incarnation, group, body, now, lost)
  body = body + #group[4]
end
if next(WRITTEN) then announce(now) end
rescue(now)
local version, unsettled, restored = unpack(redis.call('HMGET', KEYS[1], 'version', 'unsettled', 'restored'))
local more = (HANDED or unsettled) and settle(now, unsettled)
version = tonumber(version or '0')
if not redis.call('ZSCORE', P .. 'workers', q.worker) then return {now, version, accepted, lost, 1, 0, {}, {}, 0} end
read_needs(q.python)
if restored then q.lanes = {} end -- nothing is claimed until somebody has decided
local claims, due, alone_ = claim(q.worker, q.lanes, q.held, now)
if more or (HANDED and settle(now)) then due = now end
local cancels = redis.call('LRANGE', P .. 'cancels:' .. q.worker, 0, -1)
if #cancels > 0 then redis.call('DEL', P .. 'cancels:' .. q.worker) end
return {now, version, accepted, lost, 0, due or 0, claims, cancels, alone_}
