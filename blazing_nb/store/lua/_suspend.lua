-- Shared: a worker gives back what cannot run before others are final (a retry of what ended while it waited); neither a
-- failure nor a death. The body is 'J' {due ms or 0, groups, members, claimed ms}; the round of its join is the claim number.
local function suspend(name, id, claims, token, body, _, enqueued, now)
  local op = name .. ':' .. id
  local due, groups, members, claimed = unpack(cmsgpack.unpack(string.sub(body, 2)))
  local live, round = P .. 'live:' .. op, string.format('%d', claims)
  if redis.call('HEXISTS', live, 'cancel') == 1 then
    local incarnation = string.match(token, '^%d+')
    return told('C', incarnation, claims, enqueued, now, claims, 'OperationCancelled', 'cancelled while it ran')
  end
  redis.call('HINCRBY', live, 'waits', 1)
  local story = string.format('%.0f;%s;%.0f', now, string.match(token, '^%d+'), claimed)
  redis.call('HSET', live, 'token', token, 'waited', claims, 'wait:' .. claims, story)
  -- Where its join has expired before this commit came, it runs again at once, and asks again.
  if lacks(op, round, groups, members) then return park(name, id, now) end
  park(name, id, NEVER)
  await(op, round, groups, members, due, now)
end
