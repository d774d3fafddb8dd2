-- Shared: a row of next:<chunk>, see `_settle`; `awaited` (set) lists the chunks that have any. Numbers of registrations are
-- taken from `joined` in blocks: an event looks at rows up to the end of one.
local AWAITED, NUMBERS = {}, {left = 0, last = 0}

local function forget(title)
  redis.call('SREM', P .. 'awaited', title)
  AWAITED[title] = nil
end

local function expect(title, g, round, op, slots)
  if NUMBERS.left == 0 then NUMBERS.last, NUMBERS.left = redis.call('HINCRBY', KEYS[1], 'joined', 256) - 256, 256 end
  NUMBERS.last, NUMBERS.left = NUMBERS.last + 1, NUMBERS.left - 1
  if not AWAITED[title] then redis.call('SADD', P .. 'awaited', title) end
  AWAITED[title] = true
  local row = table.concat({g, round, op, string.format('%.0f', NUMBERS.last), slots}, '|')
  redis.call('ZADD', P .. 'next:' .. title, NUMBERS.last, row)
end
