-- Shared: every path to a final status. Takes what a caller proved it may finish, in one segment:
-- items = {{id, record, claims}, ...}; deletes the entries, keeps outcomes, tells the node.
local INLINE = 8192
local FOLLOW_MS = 60000
local MOURNED = {[string.byte('F')] = true, [string.byte('L')] = true, [string.byte('X')] = true}

-- Keyed operations are in segments that the store writes: their keys go with their outcomes.
local function expire_keys(name, ids, retention)
  local step = string.match(name, '^[^:]*')
  for _, id in ipairs(ids) do
    local entry = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1]
    for i = 5, entry and #entry[2] or 0, 2 do
      if entry[2][i] == 'k' then redis.call('PEXPIRE', P .. 'uniq:' .. step .. ':' .. entry[2][i + 1], retention) end
    end
  end
end

-- Nobody owns the completions of a segment that the store writes: who follows asks again after a moment anyway.
local function notify(node, incarnation, done, now, retention)
  local stream = P .. 'done:' .. node .. ':' .. incarnation
  redis.call('XADD', stream, '*', unpack(done))
  if string.sub(node, 1, 1) == '@' then
    redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f', now - FOLLOW_MS))
  end
  last(stream, retention)
end

local function finish_incarnation(name, node, incarnation, items, now, retention)
  local chunks, done, acks = {}, {}, {}
  local marked = redis.call('EXISTS', P .. 'marks') == 1
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
  end
  local seg = P .. 'seg:' .. name
  if string.sub(node, 1, 1) == '@' then expire_keys(name, acks, retention) end
  redis.call('XACK', seg, 'w', unpack(acks))
  redis.call('XDEL', seg, unpack(acks))
  keep(name, node, incarnation, chunks, now, retention)
  notify(node, incarnation, done, now, retention)
end

local function finish(name, items, now, retention)
  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')
  local groups = {}
  local incarnation, group, begins = nil, nil, nil
  for _, item in ipairs(items) do
    -- Ids of one incarnation follow each other.
    if not begins or string.sub(item[1], 1, #begins) ~= begins then
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
