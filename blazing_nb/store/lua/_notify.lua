-- Shared: a node follows its own completions.
local INLINE = 8192
local FOLLOW_MS = 60000

-- Nobody owns the completions of a segment that the store writes: who follows asks again after a moment anyway.
local function notify(stream, done, now, retention)
  local key = P .. 'done:' .. stream
  redis.call('XADD', key, '*', unpack(done))
  if string.sub(stream, 1, 1) == '@' then
    redis.call('XTRIM', key, 'MINID', '~', string.format('%.0f', now - FOLLOW_MS))
  end
  last(key, retention)
end
