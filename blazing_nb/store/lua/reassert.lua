#!lua flags=allow-oom
-- DOES    commits again what a worker had committed, and was told so, where the store went back and has lost it.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), parked:<step>, solo, need:<python>:<step>, failed:<step>, expiring (zset),
-- KEYS    needs, ahead, live:<operation>, out:<chunk> (hash), chunks (zset), marks (set), done:<node>:<incarnation> (stream),
-- KEYS    stats:<step> (hash), ts (stream), bell:<step> (list); settled (list), awaited (set), next:<chunk>, joins (zset), join:<operation> (hash)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker: its name when it committed, incarnation (text), groups, effects: as of `turn`}
-- ARGV    3... records, payloads of what follows and values of effects, as of `turn`; final outcomes only, of nodes' own segments
-- REPLY   {accepted, remembered (not enqueued yet: they end when they are), lost ids: another has them, or they ended otherwise}
-- REJECT  BZARG worker=; BZARG letter=<a status that is not final>; BZARG segment=<one that the store writes: its ids may name others now>
-- COST    O(operations)
-- KEEPS   one commit an operation (I3); nobody's claim is taken away, no outcome is overwritten: it is the last claim of
-- KEEPS   its operation, or there is no claim of that number (I4)
-- Most are plain. `again`, `wait` and `suspend` are refused below, and named by `commit`.
-- @defer told mourn tell hand_on end_joins close settle suspend again by_index follow announce wait effect unpark
local PAYLOADS, WRITTEN, EFFECTS = 0, {}, false
-- @include _clock
-- @include _moving
-- @include _stats
-- @include _bell
-- @include _keep
-- @include _notify
-- @include _finish
-- @include _limit
-- @include _owned
-- @include _commit
-- @include _ahead
-- @include _unheld
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
-- @include _again
-- @include _follow
-- @include _wait
-- @include _append
-- @include _effect
-- @end
local q = cmsgpack.unpack(ARGV[2])
if not q.worker or q.worker == '' then return redis.error_reply('BZARG worker=') end
local body = 3
for _, group in ipairs(q.groups) do
  if string.find(group[1], ':@', 1, true) then return redis.error_reply('BZARG segment=' .. group[1]) end
  for i = body, body + #group[4] - 1 do
    local letter = string.sub(ARGV[i], 1, 1)
    if not ENDED[letter] then return redis.error_reply('BZARG letter=' .. letter) end
  end
  body = body + #group[4]
end
PAYLOADS, EFFECTS = body - 1, q.effects
local now, accepted, lost, at, remembered = clock(ARGV[1]), 0, {}, 3, 0
for _, group in ipairs(q.groups) do
  local have, idle = unheld(q, group, at)
  for _, claims in pairs(have) do remembered = remembered + (claims and 0 or 1) end
  accepted = accepted + commit(q.worker, q.incarnation, group, at, now, lost, have)
  if idle > 0 then tally(string.match(group[1], '^[^:]*'), {flight = idle}, now) end
  at = at + #group[4]
end
if next(WRITTEN) then announce(now) end
local unsettled = redis.call('HGET', KEYS[1], 'unsettled')
if HANDED or unsettled then settle(now, unsettled) end
return {accepted, remembered, lost}
