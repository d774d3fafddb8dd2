#!lua flags=allow-oom
-- DOES    appends what operations printed and showed to their output.
-- KEYS    1 meta (hash); derives log:<operation>, seg:<segment> (stream), marks (set)
-- ARGV    1 now_ms, empty for the server's TIME
-- ARGV    2 request: {{operation, claim number, number of the text, which a repeated call repeats, stream (see core/output)}, ...}
-- ARGV    3... texts, one a row
-- REPLY   1
-- REJECT  BZARG texts=<n> (not one a row)
-- COST    O(rows)
-- KEEPS   the output goes with its operation: it has no end before that has one
-- @include _clock
-- @include _moving
local q = cmsgpack.unpack(ARGV[2])
if #q ~= #ARGV - 2 then return redis.error_reply('BZARG texts=' .. (#ARGV - 2)) end
clock(ARGV[1])
for i, row in ipairs(q) do
  local key = P .. 'log:' .. row[1]
  local name, id = string.match(row[1], '^(.*):([^:]*)$')
  redis.call('XADD', key, '*', 'c', row[2], 'n', row[3], 's', row[4], 't', ARGV[i + 2])
  if #redis.call('XRANGE', P .. 'seg:' .. name, id, id) == 1 then
    redis.call('SADD', P .. 'marks', row[1])
  elseif redis.call('PTTL', key) < 0 then
    redis.call('PEXPIRE', key, 86400000)
  end
end
return 1
