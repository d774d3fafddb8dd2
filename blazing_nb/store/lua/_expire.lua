-- Shared: what is past its deadline ends as EXPIRED and is not given out.
local function expire(step, name, entries, claims, worker, now, hist)
  local kept, ended = {}, {}
  for _, entry in ipairs(entries) do
    local fields, deadline = entry[2], false
    for i = 5, #fields, 2 do
      if fields[i] == 'x' then deadline = tonumber(fields[i + 1]) end
    end
    if deadline and deadline <= now then
      local incarnation = string.match(worker, '%.(%d+)$') or '0'
      local story = 'its deadline passed ' .. string.format('%.0f', now - deadline) .. ' ms before it ran'
      local record = told('X', incarnation, claims, tonumber(fields[4]), now, 0, 'OperationExpired', story)
      ended[#ended + 1] = {entry[1], record, 0}
    else
      kept[#kept + 1] = entry
      observe(hist, 'w', (now - tonumber(fields[4])) * 1000)
    end
  end
  if #ended == 0 then return entries end
  finish(name, ended, now, 86400000)
  hist.expired = (hist.expired or 0) + #ended
  return kept
end
