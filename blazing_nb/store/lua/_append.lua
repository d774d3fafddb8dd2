-- Shared: append to a stream that several read from positions of their own (a channel, a log). What is older than the
-- retention ('@retention' beside the stream, else the one given; 0: never) goes, a bounded number a call, and '@dropped' says up to where:
-- a reader whose position lies before has a gap.
local function append(stream, origin, payload, retention)
  local position = redis.call('XADD', stream, '*', 'o', origin, 'v', payload)
  retention = tonumber(redis.call('HGET', stream .. ':w', '@retention') or retention)
  if retention > 0 then
    local bound = math.max(0, tonumber(string.match(position, '^%d+')) - retention)
    local old = redis.call('XRANGE', stream, '-', '(' .. string.format('%.0f', bound), 'COUNT', 64)
    for _, entry in ipairs(old) do redis.call('XDEL', stream, entry[1]) end
    if #old > 0 then redis.call('HSET', stream .. ':w', '@dropped', old[#old][1]) end
  end
  return position
end
