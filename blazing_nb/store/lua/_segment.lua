-- Shared: what every writer of a segment does: register it (and remember where a pruned one ended), and make it known
-- as one with waiting entries. The store's own segments have one writer too: the scripts, under the node `@<shard>`.
local OWN = '@' .. string.match(KEYS[1], ':(%d+)}')

local function register(name, at)
  if redis.call('ZADD', P .. 'segs', at, name) == 0 then return end
  local seg = P .. 'seg:' .. name
  redis.call('XGROUP', 'CREATE', seg, 'w', '0', 'MKSTREAM')
  local pruned = redis.call('HGET', P .. 'last', name)
  if pruned then redis.call('XSETID', seg, pruned) end
end

local function activate(name)
  local step, prio = string.match(name, '^([^:]*):([^:]*):')
  redis.call('ZADD', P .. 'active:' .. step .. ':' .. prio, 'NX', redis.call('HINCRBY', KEYS[1], 'turn', 1), name)
end

-- The next id in the store's own segments: (incarnation, counter).
local function own_id(now)
  local incarnation = redis.call('HGET', P .. 'nodes', OWN)
  if not incarnation then
    incarnation = string.format('%.0f', now * 2048)
    redis.call('HSET', P .. 'nodes', OWN, incarnation)
  end
  return incarnation, redis.call('HINCRBY', P .. 'nodes', '@keyed', 1)
end
