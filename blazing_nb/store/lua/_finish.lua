-- Shared: every path to a final status. Takes what a caller proved it may finish, in one segment:
-- items = {{id, record, claims}, ...}; deletes the entries, keeps outcomes, tells the node.
local INLINE = 8192

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

local function finish_incarnation(name, node, incarnation, items, now, retention)
  local chunks, done, acks = {}, {}, {}
  for _, item in ipairs(items) do
    local counter = tonumber(string.match(item[1], '%-(%d+)$'))
    local chunk = math.floor(counter / 128)
    local pairs_ = chunks[chunk] or {}
    pairs_[#pairs_ + 1] = string.format('%d', counter % 128)
    pairs_[#pairs_ + 1] = item[2]
    chunks[chunk] = pairs_
    acks[#acks + 1] = item[1]
    done[#done + 1] = string.format('%.0f', counter)
    done[#done + 1] = #item[2] <= INLINE and item[2] or ''
    if item[3] ~= 1 then redis.call('PEXPIRE', P .. 'live:' .. name .. ':' .. item[1], retention) end
  end
  local seg = P .. 'seg:' .. name
  if string.sub(node, 1, 1) == '@' then expire_keys(name, acks, retention) end
  redis.call('XACK', seg, 'w', unpack(acks))
  redis.call('XDEL', seg, unpack(acks))
  for chunk, pairs_ in pairs(chunks) do
    local key = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. string.format('%d', chunk)
    redis.call('HSET', key, unpack(pairs_))
    if redis.call('PTTL', key) < retention then redis.call('PEXPIRE', key, retention) end
    redis.call('ZADD', P .. 'chunks', now, node .. ':' .. incarnation .. ':' .. string.format('%d', chunk))
  end
  local stream = P .. 'done:' .. node .. ':' .. incarnation
  redis.call('XADD', stream, '*', unpack(done))
  if redis.call('PTTL', stream) < retention then redis.call('PEXPIRE', stream, retention) end
end

local function finish(name, items, now, retention)
  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')
  local groups = {}
  for _, item in ipairs(items) do
    local incarnation = string.match(item[1], '^(%d+)%-')
    local group = groups[incarnation] or {}
    group[#group + 1] = item
    groups[incarnation] = group
  end
  for incarnation, group in pairs(groups) do
    finish_incarnation(name, node, incarnation, group, now, retention)
  end
end

-- An ending that no worker wrote: its record, with a story that reads like a failure.
local function told(letter, incarnation, claims, enqueued, now, attempts, kind, story)
  local pack = cmsgpack.pack
  local failure = '\148' .. pack(kind) .. pack(story) .. '\160\192'
  return letter .. incarnation .. '-' .. claims .. ';\150' .. pack(enqueued) .. pack(now) .. '\0\0' .. pack(attempts)
    .. '\197' .. struct.pack('>I2', #failure) .. failure
end
