-- Shared: counters and log-scaled latency buckets of a step, and its one-second roll-ups in `ts`
-- (each holds the running totals, so the difference of two is what happened between them).
local FIELDS = {w = {}, r = {}, t = {}}

-- Few different times come in one call: each field's name is made once.
local function field_of(name, us)
  local field = name .. (us < 1 and 0 or math.floor(4 * math.log(us) / 0.69314718055994530942 + 1e-9))
  FIELDS[name][us] = field
  return field
end

local function observe(hist, name, us, n)
  local field = FIELDS[name][us] or field_of(name, us)
  hist[field] = (hist[field] or 0) + n
end

local function is_bucket(field) return string.find(field, '^[wrt]%d+$') ~= nil end

local function record(step, second, totals)
  redis.call('XADD', P .. 'ts', '*', 's', step, 'at', second, 'c', cmsgpack.pack(totals))
end

-- A roll-up holds the counters; every tenth second or later the buckets too, which are ten times as large.
local function roll(key, step, second, now)
  local flat, kept = redis.call('HGETALL', key), {}
  local whole = tonumber(second) - tonumber(redis.call('HGET', key, 'whole') or '0') >= 10
  for i = 1, #flat, 2 do
    if whole or not is_bucket(flat[i]) then kept[#kept + 1], kept[#kept + 2] = flat[i], flat[i + 1] end
  end
  if whole then redis.call('HSET', key, 'whole', second) end
  record(step, second, kept)
  redis.call('XTRIM', P .. 'ts', 'MINID', '~', string.format('%.0f', now - 3600000))
end

local function tally(step, counts, now)
  local key = P .. 'stats:' .. step
  local second = string.format('%.0f', math.floor(now / 1000))
  local marked = redis.call('HGET', key, 'second')
  if marked and marked ~= second then roll(key, step, marked, now) end
  if not marked then record(step, string.format('%.0f', math.floor(now / 1000) - 1), {}) end
  if marked ~= second then redis.call('HSET', key, 'second', second) end
  for field, by in pairs(counts) do redis.call('HINCRBY', key, field, by) end
end
