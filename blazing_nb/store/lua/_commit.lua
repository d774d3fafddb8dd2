-- Shared: the fence and the commit of one segment's batch. Every id and its claim number are compared with what the
-- pending list says this worker holds, never the number of rows.
local LETTERS = {S = 'succeeded', F = 'failed', C = 'cancelled', X = 'expired', R = 'retried', W = 'waited', J = 'waited'}

local function owned(seg, worker, ids, held)
  local have = {}
  if #ids * 8 >= held then
    for _, row in ipairs(redis.call('XPENDING', seg, 'w', ids[1], ids[#ids], held, worker)) do have[row[1]] = row[4] end
  end
  -- One by one where they are few; and where a claim whose reply was lost made the worker hold more than it knows.
  for _, id in ipairs(ids) do
    local row = not have[id] and redis.call('XPENDING', seg, 'w', id, id, 1, worker)[1]
    if row then have[id] = row[4] end
  end
  return have
end

local function committed(name, id, token)
  if redis.call('HGET', P .. 'live:' .. name .. ':' .. id, 'token') == token then return true end
  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')
  local incarnation, counter = string.match(id, '^(%d+)%-(%d+)$')
  local chunk = string.format('%d', math.floor(tonumber(counter) / 128))
  local key = P .. 'out:' .. node .. ':' .. incarnation .. ':' .. chunk
  local record = redis.call('HGET', key, string.format('%d', tonumber(counter) % 128))
  return record and string.sub(record, 2, #token + 1) == token
end

-- group = {name, held, retention, ids, claims, runs, enqueued, what follows}; its bodies begin at ARGV[at]; appends what was
-- refused to `lost`.
local function commit(worker, incarnation, group, at, now, lost)
  local name, held, retention, ids, claims, runs, enqueued, rows = unpack(group)
  local have = owned(P .. 'seg:' .. name, worker, ids, held)
  local items, hist, accepted, tokens, next_ = {}, {}, 0, {}, by_index(rows)
  for i, id in ipairs(ids) do
    local token = tokens[claims[i]] or incarnation .. '-' .. claims[i] .. ';'
    tokens[claims[i]] = token
    if have[id] == claims[i] then
      accepted, have[id] = accepted + 1, false
      local body, letter = ARGV[at + i - 1], string.sub(ARGV[at + i - 1], 1, 1)
      local record, place = letter .. token .. string.sub(body, 2), nil
      if letter == 'R' or letter == 'W' or letter == 'J' then
        local later = letter == 'R' and again or letter == 'W' and wait or suspend
        record = later(name, id, claims[i], token, body, next_[i] or {}, enqueued[i], now)
        if record then letter = 'C' end
      elseif letter == 'S' and next_[i] then
        record, place = follow(name, id, claims[i], token, record, next_[i][1], enqueued[i], now)
        letter = string.sub(record, 1, 1)
      end
      if letter == 'S' then effect(name .. ':' .. id, hist) end
      hist[LETTERS[letter]] = (hist[LETTERS[letter]] or 0) + 1
      observe(hist, 'r', runs[i])
      if record then
        items[#items + 1] = {id, record, claims[i], place}
        observe(hist, 't', (now - enqueued[i]) * 1000)
      end
    elseif have[id] == false then -- twice in one call: claimed again after a rollback of the store
    elseif not committed(name, id, token) then
      hist.fenced = (hist.fenced or 0) + 1
      lost[#lost + 1] = name .. ':' .. id
    end
  end
  if #items > 0 then finish(name, items, now, retention) end
  local step = string.match(name, '^[^:]*')
  if accepted > 0 then hist.flight = -accepted end
  if hist.retried or LIMITS[step] then ring(step) end
  tally(step, hist, now)
  return accepted
end
