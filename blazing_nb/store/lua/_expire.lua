-- Shared: what is past its deadline ends as EXPIRED and is not given out.
local function deadline_of(fields)
  for i = 5, #fields, 2 do
    if fields[i] == 'x' then return tonumber(fields[i + 1]) end
  end
end

local function expire(step, name, entries, claims, worker, now, hist)
  local kept, ended, enqueued = {}, {}, {}
  for i, entry in ipairs(entries) do
    local fields = entry[2]
    local at, deadline = fields[4], fields[5] and deadline_of(fields)
    if deadline and deadline <= now then
      local incarnation = string.match(worker, '%.(%d+)$') or '0'
      local story = 'its deadline passed ' .. string.format('%.0f', now - deadline) .. ' ms before it ran'
      local record = told('X', incarnation, claims, tonumber(at), now, 0, 'OperationExpired', story)
      ended[#ended + 1] = {entry[1], record, 0}
    else
      kept[i - #ended] = entry
      enqueued[at] = (enqueued[at] or 0) + 1
    end
  end
  for at, n in pairs(enqueued) do observe(hist, 'w', (now - tonumber(at)) * 1000, n) end
  if #ended == 0 then return entries end
  finish(name, ended, now, 86400000)
  hist.expired = (hist.expired or 0) + #ended
  return kept
end
