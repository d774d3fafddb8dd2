-- Shared: the key prefix, and the one clock. The clock never goes back, and an outage kills no worker:
-- where no script ran for longer than half a lease, every lease shifts by the gap.
local P = string.sub(KEYS[1], 1, -5)
local NEVER = '9000000000000000'

local function clock(override)
  local now
  if override ~= '' then
    now = tonumber(override)
  else
    local t = redis.call('TIME')
    now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  local seen = tonumber(redis.call('GET', P .. 'clock') or '0')
  if now <= seen then return seen end
  if seen > 0 and now - seen > 100 then
    local quiet = tonumber(redis.call('HGET', KEYS[1], 'quiet_ms') or '0')
    if quiet > 0 and now - seen > quiet then
      for _, worker in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
        redis.call('ZINCRBY', P .. 'workers', now - seen, worker)
      end
    end
  end
  redis.call('SET', P .. 'clock', string.format('%.0f', now))
  return now
end
