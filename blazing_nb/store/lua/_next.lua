-- Shared: what became final is handed on to who waits for it. Asked once for all chunks of a commit, whatever finishes there;
-- what is found is only noted in `settled` here, and worked off in bounded steps (`_settle`), since thousands may wait.
-- The joins of what has ended itself end here too.

-- The operation that goes on where a flow's stage ended, as its record says (`follow`); nil where nothing does.
local function onward(record)
  local at = string.find(record, ';', 1, true)
  return string.byte(record, at + 1) == 151 and string.match(record, '|([^|]*)$') or nil
end

local function titles(node, incarnation, chunks)
  local keys, found = {}, {}
  for chunk in pairs(chunks) do
    keys[#keys + 1] = P .. 'next:' .. node .. ':' .. incarnation .. ':' .. string.format('%.0f', chunk)
  end
  if redis.call('EXISTS', unpack(keys)) == 0 then return found end
  for chunk in pairs(chunks) do found[#found + 1] = chunk end
  return found
end

-- True where somebody waits for any of them.
local function hand_on(name, node, incarnation, chunks)
  local handed = false
  for _, chunk in ipairs(titles(node, incarnation, chunks)) do
    local fields, slots, letters, moved = chunks[chunk], {}, {}, {}
    for i, slot in ipairs(fields.slots) do
      slots[i], letters[i] = string.char(slot), string.sub(fields[2 * i], 1, 1)
      local onto = onward(fields[2 * i])
      if onto then moved[#moved + 1], moved[#moved + 2] = slot, onto end
    end
    local upto = redis.call('HGET', KEYS[1], 'joined')
    local at = string.format('%.0f', chunk)
    local event = {name, incarnation, at, table.concat(slots), table.concat(letters), '-1', upto, moved}
    redis.call('RPUSH', P .. 'settled', cmsgpack.pack(event))
    handed = true
  end
  return handed
end

local function end_joins(name, items)
  local keys, ops = {}, {}
  for i, item in ipairs(items) do
    ops[i] = name .. ':' .. item[1]
    keys[i] = P .. 'join:' .. ops[i]
  end
  if redis.call('DEL', unpack(keys)) > 0 then redis.call('ZREM', P .. 'joins', unpack(ops)) end
end
