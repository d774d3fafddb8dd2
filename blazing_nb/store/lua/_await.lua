-- Shared: an operation is made to wait: its join begins, its members are registered, and the join is sealed.
local UNSEALED_MS = 3600000

local function begin(op, round, groups, now)
  local key = P .. 'join:' .. op
  if redis.call('HGET', key, 'round') == round then return end
  local fields, open = {'round', round, 'at', 0}, 0
  for i, group in ipairs(groups) do
    local needed, total, counts, ending = unpack(group)
    open = open + (needed > 0 and 1 or 0)
    fields[#fields + 1] = 'g' .. i
    fields[#fields + 1] = cmsgpack.pack({needed, total, counts, ending, 0, 0, needed > 0 and 0 or 1})
  end
  redis.call('DEL', key)
  redis.call('HSET', key, 'open', open, unpack(fields))
  redis.call('PEXPIRE', key, UNSEALED_MS)
  redis.call('ZADD', P .. 'joins', now, op)
end

-- Why an operation cannot wait yet: members are neither given here nor registered before.
local function lacks(op, round, groups, members)
  local total, given = 0, 0
  for _, group in ipairs(groups) do total = total + group[2] end
  for _, member in ipairs(members) do given = given + member[5] - member[4] + 1 end
  local have, at = unpack(redis.call('HMGET', P .. 'join:' .. op, 'round', 'at'))
  if given == 0 and have == round then given = tonumber(at) end
  return given ~= total and 'registered=' .. given .. ' total=' .. total
end

-- From here on the operation, which is parked, starts as soon as its groups are decided, and not before `due`.
local function await(op, round, groups, members, due, now)
  begin(op, round, groups, now)
  if #members > 0 then enroll(op, round, members, math.huge, math.huge, now) end
  redis.call('HSET', P .. 'join:' .. op, 'sealed', 1, 'due', string.format('%.0f', due))
  redis.call('PERSIST', P .. 'join:' .. op)
  decide(op, now)
end
