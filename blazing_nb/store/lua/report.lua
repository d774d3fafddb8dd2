#!lua flags=allow-oom
-- DOES    records how far operations of a worker came, without renewing its lease.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), live:<operation> (hash), marks (set)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {worker, progress: {{segment, id, claims, text}, ...}}
-- REPLY   1
-- REJECT  BZARG worker=
-- COST    O(operations)
-- KEEPS   progress of a claim that is not the worker's is dropped
-- @include _clock
-- @include _moving
-- @include _report
local q = cmsgpack.unpack(ARGV[2])
if not q.worker or q.worker == '' then return redis.error_reply('BZARG worker=') end
clock(ARGV[1])
report(q.worker, q.progress)
return 1
