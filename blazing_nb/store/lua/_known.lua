-- Shared: whether an enqueue was stored before ("known"), cannot be any more ("fenced"), or is new (false). Where the
-- segment ends before what its writer stored there last, this store went back.
local function stored(q, name, seg)
  local last = redis.call('HGET', P .. 'last', name) or '0-0'
  if redis.call('EXISTS', seg) == 1 then last = redis.call('XINFO', 'STREAM', seg)[8] end
  local incarnation, counter = string.match(last, '^(%d+)%-(%d+)$')
  local missing = tonumber(q.before) or 0
  if missing > 0 and incarnation == q.incarnation then missing = math.max(0, missing - tonumber(counter)) end
  if missing > 0 and tonumber(incarnation) <= tonumber(q.incarnation) then
    return redis.error_reply('BZROLLBACK missing=' .. string.format('%.0f', missing))
  end
  if tonumber(incarnation) < tonumber(q.incarnation) then return false end
  if incarnation == q.incarnation then return tonumber(counter) >= q.first and 'known' end
  local id = q.incarnation .. '-' .. string.format('%.0f', q.first)
  local out = P .. 'out:' .. q.node .. ':' .. q.incarnation .. ':' .. string.format('%d', math.floor(q.first / 128))
  local found = #redis.call('XRANGE', seg, id, id) == 1 or redis.call('HEXISTS', out, string.format('%d', q.first % 128)) == 1
  return found and 'known' or 'fenced'
end
