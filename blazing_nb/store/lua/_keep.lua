-- Shared: outcomes in chunks of 128 counters (as many fields as a hash holds compactly), and the registers of chunks: by
-- last commit (`chunks`, for listing) and by the end of their retention (`expiring`). Beside each chunk `whose` lists by
-- step and priority, a byte a counter, which are theirs.
-- The names of a chunk's fields: a number given to redis.call is printed as a float each time.
local SLOTS = {}

-- Files records by chunk; `slots` of a chunk are its fields' names as numbers.
local function file(chunks, counter, record)
  local slot = counter % 128
  local chunk = (counter - slot) / 128
  local fields = chunks[chunk]
  if not fields then
    fields = {slots = {}}
    chunks[chunk] = fields
  end
  local n = #fields.slots + 1
  fields.slots[n] = slot
  SLOTS[slot] = SLOTS[slot] or string.format('%d', slot)
  fields[2 * n - 1], fields[2 * n] = SLOTS[slot], record
end

-- A sixteenth longer than asked, so that the next commits need not touch it again. Plain PEXPIRE would shorten.
local function last(key, retention)
  if redis.call('PTTL', key) >= retention then return false end
  redis.call('PEXPIRE', key, retention + math.ceil(retention / 16))
  return true
end

local function keep(name, node, incarnation, chunks, now, retention)
  local place = string.match(name, '^([^:]*:[^:]*):')
  local written, ends = {}, {}
  for chunk, fields in pairs(chunks) do
    local title = node .. ':' .. incarnation .. ':' .. string.format('%.0f', chunk)
    local key, whose = P .. 'out:' .. title, P .. 'whose:' .. title
    redis.call('HSET', key, unpack(fields))
    redis.call('HSET', whose, place, (redis.call('HGET', whose, place) or '') .. string.char(unpack(fields.slots)))
    if last(key, retention) then last(whose, retention) end
    written[#written + 1], written[#written + 2] = now, title
    ends[#ends + 1], ends[#ends + 2] = now + retention + math.ceil(retention / 16), title
  end
  redis.call('ZADD', P .. 'chunks', unpack(written))
  redis.call('ZADD', P .. 'expiring', 'GT', unpack(ends))
  local over = redis.call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, 16)
  if #over > 0 then
    redis.call('ZREM', P .. 'expiring', unpack(over))
    redis.call('ZREM', P .. 'chunks', unpack(over))
  end
end
