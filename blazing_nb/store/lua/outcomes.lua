#!lua flags=no-writes
-- DOES    answers the finished operations of some chunks, for listing: those of a step, with a status of those asked for.
-- KEYS    1 meta (hash); derives out:<chunk> (hash)
-- ARGV    1 request: {chunks: {title, ...}, letters: the records' first letters, "" for all, step: "" for all}
-- REPLY   {{step:prio, chunk's title, counter within it, record}, ...}
-- REJECT  BZARG chunks=<n> (over 64)
-- COST    O(chunks), 128 operations each
-- KEEPS   reads only
local P = string.sub(KEYS[1], 1, -5)
local q = cmsgpack.unpack(ARGV[1])
if #q.chunks > 64 then return redis.error_reply('BZARG chunks=' .. #q.chunks) end
local out = {}
for _, title in ipairs(q.chunks) do
  local flat = redis.call('HGETALL', P .. 'out:' .. title)
  local records, places = {}, {}
  for i = 1, #flat, 2 do
    if string.find(flat[i], ':', 1, true) then places[flat[i]] = flat[i + 1] else records[flat[i]] = flat[i + 1] end
  end
  for place, counters in pairs(places) do
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
