#!lua flags=no-writes
-- DOES    answers the status of operations, final ones with their record.
-- KEYS    1 meta (hash); derives seg:<segment> (stream), out:<chunk> (hash), parked:<step>, solo, need:<python>:<step> (zset),
-- KEYS    live:<operation>, join:<operation>, worker:<id> (hash)
-- ARGV    1 request: {{segment, incarnation (text), counter}, ...}
-- REPLY   {{status, record or "", claims, deaths, releases, due ms or "", worker, claimed or parked since ms or "",
-- REPLY   waits}, ...};
-- REPLY   status is "FINAL" or one of the live ones, "ABSENT" where nothing is known
-- REJECT  BZARG operations=<n> (over 1,000)
-- COST    O(operations)
-- KEEPS   reads only
local P = string.sub(KEYS[1], 1, -5)
-- @include _moving
local q = cmsgpack.unpack(ARGV[1])
if #q > 1000 then return redis.error_reply('BZARG operations=' .. #q) end

-- `waited`: the last claim that ended with the workflow waiting; what is parked since then was not begun anew.
local function phase(name, id, row, waited)
  if not row then return 'PENDING', '', '' end
  if row[2] == '@parked' then
    local member = name .. '|' .. id
    local step, need = string.match(name, '^[^:]*'), redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'need')
    local due = redis.call('ZSCORE', P .. 'parked:' .. step, member) or redis.call('ZSCORE', P .. 'solo', member)
    if need and not due then due = redis.call('ZSCORE', P .. 'need:' .. need .. ':' .. step, member) end
    if (tonumber(redis.call('HGET', P .. 'join:' .. name .. ':' .. id, 'open')) or 0) > 0 then return 'SCHEDULED', '', '' end
    due = due or ''
    return row[4] > waited and 'RETRYING' or 'SCHEDULED', due, ''
  end
  local running = redis.call('HGET', P .. 'worker:' .. row[2], 'running') or ''
  return string.find(' ' .. running .. ' ', ' ' .. name .. ':' .. id .. ' ', 1, true) and 'RUNNING' or 'CLAIMED', '', row[2]
end

local out, time = {}, redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i, op in ipairs(q) do
  local name, incarnation, counter = unpack(op)
  local id, node = incarnation .. '-' .. string.format('%.0f', counter), string.match(name, '^[^:]*:[^:]*:(.*)$')
  local chunk = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. string.format('%d', math.floor(counter / 128))
  local record = redis.call('HGET', chunk, string.format('%d', counter % 128))
  if record then
    out[i] = {'FINAL', record, 0, 0, 0, '', '', '', 0}
  elseif #redis.call('XRANGE', P .. 'seg:' .. name, id, id) == 0 then
    out[i] = {'ABSENT', '', 0, 0, 0, '', '', '', 0}
  else
    local row = redis.call('XPENDING', P .. 'seg:' .. name, 'w', id, id, 1)[1]
    local live = redis.call('HMGET', P .. 'live:' .. name .. ':' .. id, 'deaths', 'releases', 'waits', 'waited')
    local status, due, worker = phase(name, id, row, tonumber(live[4] or 0))
    local since = row and string.format('%.0f', now - row[3]) or ''
    out[i] = {status, '', row and row[4] or 0, tonumber(live[1] or 0), tonumber(live[2] or 0), due, worker, since, tonumber(live[3] or 0)}
  end
end
return out
