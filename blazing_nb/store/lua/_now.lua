-- Shared: the moment, in scripts that only read: they cannot move the clock (`_clock`), and never look behind it.
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
now = math.max(now, tonumber(redis.call('GET', P .. 'clock') or '0'))
