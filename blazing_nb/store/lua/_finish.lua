-- Shared: every path to a final status. Takes what a caller proved it may finish, in one segment:
-- items = {{id, record, claims, where its flow goes on}, ...}; deletes the entries, keeps outcomes, tells the node.
local MOURNED = {[string.byte('F')] = true, [string.byte('L')] = true, [string.byte('X')] = true}
local HANDED = false

local function finish_incarnation(name, node, incarnation, items, now, retention)
  local chunks, done, acks = {}, {}, {}
  -- Most often there are neither marks nor joins, and one question is enough.
  local special, repeated = redis.call('EXISTS', P .. 'marks', P .. 'joins', P .. 'awaited') > 0, false
  local marked = special and redis.call('EXISTS', P .. 'marks') == 1
  local at = #incarnation + 2
  for i, item in ipairs(items) do
    local id, record = item[1], item[2]
    local text = string.sub(id, at)
    file(chunks, tonumber(text), record)
    acks[i] = id
    done[2 * i - 1], done[2 * i] = text, #record <= INLINE and record or ''
    if MOURNED[string.byte(record)] then mourn(name, id, now, retention) end
    local mine = marked and redis.call('SREM', P .. 'marks', name .. ':' .. id) == 1
    if mine then redis.call('PEXPIRE', P .. 'log:' .. name .. ':' .. id, retention) end
    if mine or item[3] ~= 1 then redis.call('PEXPIRE', P .. 'live:' .. name .. ':' .. id, retention) end
    if item[3] ~= 1 then close(name .. ':' .. id, now, retention) end
    repeated = repeated or item[3] ~= 1
  end
  local seg = P .. 'seg:' .. name
  if string.sub(node, 1, 1) == '@' then tell(name, items, now, retention) end
  redis.call('XACK', seg, 'w', unpack(acks))
  redis.call('XDEL', seg, unpack(acks))
  keep(name, node, incarnation, chunks, now, retention)
  if special then
    HANDED = hand_on(name, node, incarnation, chunks) or HANDED
    if repeated or string.find(name, '^[^:]*:d:') then end_joins(name, items) end
  end
  notify(node .. ':' .. incarnation, done, now, retention)
end

local function finish(name, items, now, retention)
  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')
  local groups = {}
  local incarnation, group, begins = nil, nil, nil
  for _, item in ipairs(items) do
    -- Ids of one incarnation follow each other.
    if not begins or string.find(item[1], begins, 1, true) ~= 1 then
      incarnation = string.match(item[1], '^(%d+)%-')
      begins, group = incarnation .. '-', groups[incarnation] or {}
      groups[incarnation] = group
    end
    group[#group + 1] = item
  end
  for incarnation, group in pairs(groups) do
    finish_incarnation(name, node, incarnation, group, now, retention)
  end
end
