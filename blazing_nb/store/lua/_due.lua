-- Shared: taking what is parked and due, for one worker. `needs` names what only workers of some Python can load, as
-- `<python>:<step>`; such a worker takes it from `need:<python>:<step>` as all take from `parked:<step>`.
local NEEDS, PYTHON = {}, ''

local function read_needs(python)
  PYTHON = python
  for _, field in ipairs(redis.call('HKEYS', P .. 'needs')) do
    local other, step = string.match(field, '^([^:]*):(.*)$')
    if other == python then NEEDS[step] = field end
  end
end

local function give(name, claims, spent, entries, hist, out)
  if #entries == 0 then return end
  out[#out + 1] = {name, claims, spent, entries}
  hist.claimed = (hist.claimed or 0) + #entries
  hist.flight = hist.claimed
end

local function take_member(key, member, worker, now, hist, out)
  local name, id = string.match(member, '^(.*)|(.*)$')
  local seg = P .. 'seg:' .. name
  local entries = redis.pcall('XCLAIM', seg, 'w', worker, 0, id)
  redis.call('ZREM', key, member)
  if entries.err or not entries[1] then return 0 end
  local row = redis.call('XPENDING', seg, 'w', id, id, 1)[1]
  local live = redis.call('HMGET', P .. 'live:' .. name .. ':' .. id, 'deaths', 'releases', 'waits')
  local kept = expire(string.match(name, '^[^:]*'), name, entries, row[4], worker, now, hist)
  local spent = tonumber(live[1] or 0) + tonumber(live[2] or 0) + tonumber(live[3] or 0)
  give(name, row[4], spent, kept, hist, out)
  local way = row[4] > 1 and 'retaken' or 'due'
  hist[way] = (hist[way] or 0) + #kept
  return 1
end

local function take_due(key, worker, now, limit, hist, out)
  local taken = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, limit)) do
    taken = taken + take_member(key, member, worker, now, hist, out)
  end
  return taken
end

-- `needs` names what only workers of some Python can load: this worker's share of it goes first.
local function take_parked(step, worker, now, limit, hist, out)
  local taken, need = 0, NEEDS[step]
  if need and limit > 0 then
    taken = take_due(P .. 'need:' .. need, worker, now, limit, hist, out)
    if redis.call('EXISTS', P .. 'need:' .. need) == 0 then
      redis.call('HDEL', P .. 'needs', need)
      NEEDS[step] = nil
    end
  end
  return taken + take_due(P .. 'parked:' .. step, worker, now, limit - taken, hist, out)
end

