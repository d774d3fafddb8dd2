#!lua flags=allow-oom
-- DOES    registers members of a join that is not sealed yet: what an operation shall wait for, in bounded parts.
-- KEYS    1 meta (hash); derives join:<operation>, out:<chunk>, whose:<chunk> (hash), next:<chunk>, joins, expiring (zset), awaited (set), seg:<segment> (stream)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {operation (text), round (text: 0 at its enqueue, else larger than of an earlier join of it), at: members registered
-- ARGV    so far, groups: {{needed, total, counts: "S" | "*", ending: "F" | "C" | ""}, ...},
-- ARGV    members: {{group, segment, incarnation (text), first, last}, ...}}
-- REPLY   how many members are registered now: send on from there
-- REJECT  BZARG members=0
-- COST    O(members), at most 1,024 or 1 MiB of what is stored of them
-- KEEPS   a member counts once, also where a call is repeated; nothing starts before the join is sealed (by enqueue or a commit)
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
-- @include _await
local q = cmsgpack.unpack(ARGV[2])
if #q.members == 0 then return redis.error_reply('BZARG members=0') end
local now, key = clock(ARGV[1]), P .. 'join:' .. q.operation
local round, sealed, at = unpack(redis.call('HMGET', key, 'round', 'sealed', 'at'))
if round and tonumber(round) > tonumber(q.round) then return redis.error_reply('BZARG round=' .. q.round .. ' stored=' .. round) end
begin(q.operation, q.round, q.groups, now)
at = round == q.round and tonumber(at) or 0
if sealed and round == q.round or at ~= q.at then return at end
return at + enroll(q.operation, q.round, q.members, 1024, 1048576, now)
