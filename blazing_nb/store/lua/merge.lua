#!lua
-- DOES    joins a delta into a shared value, field by field: `core/shared.py` says how and why.
-- KEYS    1 the value (hash)
-- ARGV    1 its kind: c (counter), s (set), r (register), m (map)
-- ARGV    2... field, value, field, value, ...
-- REPLY   fields that changed
-- REJECT  BZARG kind=<kind>; BZARG field=<n> (it does not read)
-- COST    O(fields of the delta)
-- KEEPS   commutative, associative, idempotent: any order, any number of times
local function number(value) return string.match(value, '^%d+$') and tonumber(value) end
local function place(value)
  local stamp, writer = string.match(value, '^(%d+) (%d+) ')
  return tonumber(stamp), tonumber(writer)
end
local function later(old, new)
  local s, w = place(old)
  local stamp, writer = place(new)
  return stamp > s or (stamp == s and writer > w)
end
local LARGER = {
  c = function(old, new) return number(new) > number(old) end,
  s = function(old, new) return new == '-' and old ~= '-' end,
  r = later,
  m = later,
}
local READS = {
  c = number,
  s = function(value) return value == '-' or string.sub(value, 1, 1) == '+' end,
  r = place,
  m = place,
}
local larger, reads = LARGER[ARGV[1]], READS[ARGV[1]]
if not larger then return redis.error_reply('BZARG kind=' .. ARGV[1]) end
for i = 3, #ARGV, 2 do
  if not reads(ARGV[i]) then return redis.error_reply('BZARG field=' .. (i - 1) / 2) end
end
local changed = 0
for i = 2, #ARGV - 1, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or larger(old, ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = changed + 1
  end
end
return changed
