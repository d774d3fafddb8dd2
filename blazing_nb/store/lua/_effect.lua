-- Shared: what operations asked to be done with their commit: done by the commit that is accepted, and by no other.
local WEEK_MS = 604800000
local DO = {}

-- The store writes counters and registers as writer 0: there is one, since scripts are atomic.
function DO.incr(key, by)
  local field = string.sub(by, 1, 1) == '-' and 'n:0' or 'p:0'
  local reply = redis.pcall('HINCRBY', key, field, (string.gsub(by, '-', '')))
  return type(reply) == 'number'
end

function DO.set(key, at)
  local stamp = string.match(redis.call('HGET', key, 'v:') or '', '^(%d+) ') or '0'
  redis.call('HSET', key, 'v:', string.format('%.0f', stamp + 1) .. ' 0 ' .. ARGV[at])
  return true
end

function DO.append(key, at, origin) return append(key, origin, ARGV[at], 0) end
function DO.publish(key, at, origin) return append(key, origin, ARGV[at], WEEK_MS) end

local function effect(op, hist)
  for _, row in ipairs(EFFECTS[op] or {}) do
    local verb, key, value, origin = unpack(row)
    -- A key that somebody filled with something else must not stop the commit.
    local fine, done = pcall(DO[verb], P .. key, value, origin)
    if not (fine and done) then hist.broken = (hist.broken or 0) + 1 end
  end
end
