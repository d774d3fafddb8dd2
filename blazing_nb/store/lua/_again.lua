-- Shared: what follows a failed attempt.
-- A failed attempt is parked until its back-off is over; where it was cancelled meanwhile, it ends.
-- The body is 'R' <delay ms> ';' <claimed ms> ';' <run us> ';' <what went wrong>.
local function again(name, id, claims, token, body, _, enqueued, now)
  local live = P .. 'live:' .. name .. ':' .. id
  local delay, text = string.match(body, '^R(%d+);(.*)$')
  local incarnation = string.match(token, '^%d+')
  if redis.call('HEXISTS', live, 'cancel') == 1 then
    return told('C', incarnation, claims, enqueued, now, claims, 'OperationCancelled', 'cancelled while it ran')
  end
  local row = string.format('%.0f', now) .. ';' .. incarnation .. ';' .. text
  redis.call('HSET', live, 'token', token, 'error:' .. claims, row)
  park(name, id, now + tonumber(delay))
end
