-- Shared: an ending that no worker wrote: its record, with a story that reads like a failure.
local function told(letter, incarnation, claims, enqueued, now, attempts, kind, story)
  local pack = cmsgpack.pack
  local failure = '\148' .. pack(kind) .. pack(story) .. '\160\192'
  return letter .. incarnation .. '-' .. claims .. ';\150' .. pack(enqueued) .. pack(now) .. '\0\0' .. pack(attempts)
    .. '\197' .. struct.pack('>I2', #failure) .. failure
end
