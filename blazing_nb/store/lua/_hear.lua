-- Shared: who else hears of an ending: of an operation that the store wrote, its flow's first operation, so that whoever enqueued
-- that one follows one stream; and the workflow that called it.
local function fields_of(name, id)
  local entry, fields = redis.call('XRANGE', P .. 'seg:' .. name, id, id)[1], {}
  for i = 5, entry and #entry[2] or 0, 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return fields
end

-- Before the entries go: their keys end with their outcomes; '>' <stages left> '|' <operation> ['|' its record] to the first.
local function tell(name, items, now, retention)
  local step, heard = string.match(name, '^[^:]*'), {}
  for _, item in ipairs(items) do
    local fields = fields_of(name, item[1])
    if fields.k then redis.call('PEXPIRE', P .. 'uniq:' .. step .. ':' .. fields.k, retention) end
    if fields.w then answer(fields.w, item[2], now) end
    if fields.r then
      local stream, counter = string.match(fields.r, '^[^:]*:[^:]*:(.*)%-(%d+)$')
      local news = '>' .. (item[4] or ('0|' .. name .. ':' .. item[1] .. '|' .. item[2]))
      local done = heard[stream] or {}
      done[#done + 1], done[#done + 2] = counter, #news <= INLINE and news or ''
      heard[stream] = done
    end
  end
  for stream, done in pairs(heard) do notify(stream, done, now, retention) end
end
