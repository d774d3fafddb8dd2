-- Shared: the commit of one segment's batch, under the fence (`_owned`).
local LETTERS = {S = 'succeeded', F = 'failed', C = 'cancelled', X = 'expired', R = 'retried', W = 'waited', J = 'waited'}

-- group = {name, held, retention, ids, claims, runs, enqueued, what follows}; its records begin at ARGV[at]; appends what was
-- refused to `lost`. `have`: what may be committed, by id, where that is not what the worker holds.
local function commit(worker, incarnation, group, at, now, lost, have)
  local name, held, retention, ids, claims, runs, enqueued, rows = unpack(group)
  have = have or owned(P .. 'seg:' .. name, worker, ids, held)
  local hist, fates, ran, waited = {}, {}, {}, {}
  local items, tokens, next_ = {}, {}, #rows > 0 and by_index(rows) or {}
  local accepted = 0
  for i, id in ipairs(ids) do
    local token = tokens[claims[i]] or incarnation .. '-' .. claims[i] .. ';'
    tokens[claims[i]] = token
    if have[id] == claims[i] then
      accepted, have[id] = accepted + 1, false
      local record = ARGV[at + i - 1]
      local letter, place = string.sub(record, 1, 1), nil
      if letter == 'R' or letter == 'W' or letter == 'J' then
        local later = letter == 'R' and again or letter == 'W' and wait or suspend
        record = later(name, id, claims[i], token, record, next_[i] or {}, enqueued[i], now)
        if record then letter = 'C' end
      elseif letter == 'S' and next_[i] then
        record, place = follow(name, id, claims[i], token, record, next_[i][1], enqueued[i], now)
        letter = string.sub(record, 1, 1)
      end
      if letter == 'S' and EFFECTS then effect(name .. ':' .. id, hist) end
      fates[letter] = (fates[letter] or 0) + 1
      ran[runs[i]] = (ran[runs[i]] or 0) + 1
      if record then
        items[#items + 1] = {id, record, claims[i], place}
        waited[enqueued[i]] = (waited[enqueued[i]] or 0) + 1
      end
    elseif have[id] == false then -- twice in one call: claimed again after a rollback of the store
    elseif not committed(name, id, token) then
      hist.fenced = (hist.fenced or 0) + 1
      lost[#lost + 1] = name .. ':' .. id
    end
  end
  if #items > 0 then finish(name, items, now, retention) end
  for letter, n in pairs(fates) do hist[LETTERS[letter]] = (hist[LETTERS[letter]] or 0) + n end
  for us, n in pairs(ran) do observe(hist, 'r', us, n) end
  for ms, n in pairs(waited) do observe(hist, 't', (now - ms) * 1000, n) end
  local step = string.match(name, '^[^:]*')
  if accepted > 0 then hist.flight = -accepted end
  if hist.retried or LIMITS[step] then ring(step) end
  tally(step, hist, now)
  return accepted
end
