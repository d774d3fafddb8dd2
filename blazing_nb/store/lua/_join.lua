-- Shared: joins. An operation waits, parked, until each of its groups of members is decided. join:<operation> (hash):
-- `round`, `at` (members registered), `open` (groups undecided), `sealed`, `due`, `ended` and `cause`, and by group
-- g<i> = {needed, total, counts, ending, good, bad, decided}: `counts` are the members that are good ("S": successes,
-- "*": whatever is final), `ending` how the operation ends where too few can be good ("F", "C"; "": it goes on when all
-- are final); k<i> the first good ones, where fewer than all are needed.
local ENDINGS = {F = {'failed', 'DependencyFailed', ''}, C = {'cancelled', 'OperationCancelled', 'skipped: '}}
local ENDED = {F = 'ended FAILED', C = 'ended CANCELLED', L = 'ended LOST', X = 'ended EXPIRED',
  ['?'] = 'is not in the store: never stored, or its retention has passed'}

-- A bell holds two tokens: ringing more often in one call tells nobody anything.
local RUNG = {}

local function ripen(op, due, now)
  local name, id = string.match(op, '^(.*):([^:]*)$')
  local step = string.match(name, '^[^:]*')
  redis.call('ZADD', place(name, id, now), 'XX', math.max(now, tonumber(due)), name .. '|' .. id)
  RUNG[step] = (RUNG[step] or 0) + 1
  if RUNG[step] <= 2 then ring(step) end
end

local function abandon(op, letter, cause, now)
  local name, id = string.match(op, '^(.*):([^:]*)$')
  local entry = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
  if not entry then return end
  local counter, kind, before = unpack(ENDINGS[letter])
  local row = redis.call('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1)[1]
  conclude(name, entry, row, letter, kind, before .. cause, now)
  tally(string.match(name, '^[^:]*'), {[counter] = 1}, now)
end

-- Only what is sealed is decided: its operation exists, and all its members are enrolled. ENROLLING: the one of which that
-- is true at the end of this call.
local ENROLLING, COUNTED = false, false

local function decide(op, now)
  local open, due, ended, cause = unpack(redis.call('HMGET', P .. 'join:' .. op, 'open', 'due', 'ended', 'cause'))
  if ended then abandon(op, ended, cause, now) elseif open == '0' then ripen(op, due, now) end
end

-- Members of group `g`, all of one chunk, are final: hits = {{slot, letter}, ...}.
local function count(op, round, g, name, incarnation, chunk, hits, now)
  local key = P .. 'join:' .. op
  local have, packed, sealed, due = unpack(redis.call('HMGET', key, 'round', 'g' .. g, 'sealed', 'due'))
  local group = have == round and packed and cmsgpack.unpack(packed)
  if not group or group[7] == 1 then return end
  COUNTED = true
  local needed, total, counts, ending, good, bad = unpack(group)
  local first, cause = {}, false
  for _, hit in ipairs(hits) do
    local member = name .. ':' .. incarnation .. '-' .. string.format('%.0f', chunk * 128 + hit[1])
    if counts == '*' or hit[2] == 'S' then
      good = good + 1
      if needed < total and good <= needed then first[#first + 1] = member .. ' ' end
    else
      bad, cause = bad + 1, cause or member .. ' ' .. ENDED[hit[2]]
    end
  end
  local missed = total - bad < needed and ending ~= ''
  local decided = missed or good >= needed or good + bad == total
  redis.call('HSET', key, 'g' .. g, cmsgpack.pack({needed, total, counts, ending, good, bad, decided and 1 or 0}))
  if #first > 0 then redis.call('HSET', key, 'k' .. g, (redis.call('HGET', key, 'k' .. g) or '') .. table.concat(first)) end
  hold(string.match(name, '^[^:]*:[^:]*:(.*)$') .. ':' .. incarnation .. ':' .. chunk, now)
  if not decided then return end
  sealed = sealed and ENROLLING ~= op
  if not missed then
    if redis.call('HINCRBY', key, 'open', -1) == 0 and sealed then ripen(op, due, now) end
  elseif sealed then
    abandon(op, ending, cause, now)
  else
    redis.call('HSETNX', key, 'ended', ending)
    redis.call('HSETNX', key, 'cause', cause)
  end
end
