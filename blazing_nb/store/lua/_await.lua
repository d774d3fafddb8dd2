-- Shared: an operation is made to wait: its join begins, its members are registered, and the join is sealed.
local UNSEALED_MS = 3600000

-- The fields of a join that begins, and how many members it has.
local function heads(round, groups)
  local fields, open, total = {'round', round}, 0, 0
  for i, group in ipairs(groups) do
    local needed, members, counts, ending = unpack(group)
    open, total = open + (needed > 0 and 1 or 0), total + members
    fields[#fields + 1] = 'g' .. i
    fields[#fields + 1] = cmsgpack.pack({needed, members, counts, ending, 0, 0, needed > 0 and 0 or 1})
  end
  fields[#fields + 1], fields[#fields + 2] = 'open', open
  return fields, total, open
end

local function begin(op, round, groups, now)
  local key = P .. 'join:' .. op
  if redis.call('HGET', key, 'round') == round then return end
  redis.call('DEL', key)
  redis.call('HSET', key, 'at', 0, unpack((heads(round, groups))))
  redis.call('PEXPIRE', key, UNSEALED_MS)
  redis.call('ZADD', P .. 'joins', now, op)
end

-- One whose members all travel with the call, in one piece; true where it may be decided already.
local function begin_whole(op, round, groups, members, due, now)
  local fields, total, open = heads(round, groups)
  for _, member in ipairs(members) do
    local node = string.match(member[2], '^[^:]*:[^:]*:(.*)$')
    for chunk = math.floor(member[4] / 128), math.floor(member[5] / 128) do
      fields[#fields + 1] = 't' .. node .. ':' .. member[3] .. ':' .. string.format('%.0f', chunk)
      fields[#fields + 1] = member[1]
    end
  end
  if round ~= '0' then redis.call('DEL', P .. 'join:' .. op) end
  redis.call('HSET', P .. 'join:' .. op, 'at', total, 'sealed', 1, 'due', due, unpack(fields))
  redis.call('ZADD', P .. 'joins', now, op)
  ENROLLING, COUNTED = op, false
  enroll(op, round, members, math.huge, math.huge, now)
  ENROLLING = false
  return COUNTED or open == 0
end

-- Why an operation cannot wait yet: members are neither given here nor registered before.
local function lacks(op, round, groups, members)
  local total, given = 0, 0
  for _, group in ipairs(groups) do total = total + group[2] end
  for _, member in ipairs(members) do given = given + member[5] - member[4] + 1 end
  if given == 0 and total > 0 then
    local have, at = unpack(redis.call('HMGET', P .. 'join:' .. op, 'round', 'at'))
    given = have == round and tonumber(at) or 0
  end
  return given ~= total and 'registered=' .. given .. ' total=' .. total
end

-- From here on the operation, which is parked, starts as soon as its groups are decided, and not before `due`.
local function await(op, round, groups, members, due, now)
  due = string.format('%.0f', due)
  local total = 0
  for _, group in ipairs(groups) do total = total + group[2] end
  if #members > 0 or total == 0 then
    if begin_whole(op, round, groups, members, due, now) then decide(op, now) end
    return
  end
  redis.call('HSET', P .. 'join:' .. op, 'sealed', 1, 'due', due)
  redis.call('PERSIST', P .. 'join:' .. op)
  decide(op, now)
end
