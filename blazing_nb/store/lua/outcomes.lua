#!lua flags=no-writes
-- DOES    answers the finished operations of some chunks, for listing: those of a step, with a status of those asked for.
-- KEYS    1 meta (hash); derives out:<chunk>, whose:<chunk> (hash)
-- ARGV    1 request: {chunks: {title, ...}, letters: the records' first letters, "" for all, step: "" for all}
-- REPLY   {{step:prio, chunk's title, counter within it, record}, ...}
-- REJECT  BZARG chunks=<n> (over 64)
-- COST    O(chunks), 128 operations each
-- KEEPS   reads only
local P = string.sub(KEYS[1], 1, -5)
-- @include _moving
local q = cmsgpack.unpack(ARGV[1])
if #q.chunks > 64 then return redis.error_reply('BZARG chunks=' .. #q.chunks) end
local out = {}
for _, title in ipairs(q.chunks) do
  local flat, records = redis.call('HGETALL', P .. 'out:' .. title), {}
  for i = 1, #flat, 2 do records[flat[i]] = flat[i + 1] end
  local whose = redis.call('HGETALL', P .. 'whose:' .. title)
  for w = 1, #whose, 2 do
    local place, counters = whose[w], whose[w + 1]
    if q.step == '' or string.match(place, '^[^:]*') == q.step then
      for i = #counters, 1, -1 do
        local counter = string.byte(counters, i)
        local record = records[string.format('%d', counter)]
        if record and (q.letters == '' or string.find(q.letters, string.sub(record, 1, 1), 1, true)) then
          out[#out + 1] = {place, title, counter, record}
        end
      end
    end
  end
end
return out
