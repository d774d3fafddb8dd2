-- Shared: a script refuses where its slot is being handed over, key by key, to another node of a cluster: what it does
-- not find may be there already, and what it creates fails half-way. On both nodes the question for two keys that never
-- exist has no answer then; elsewhere it costs nothing. The client waits and asks again.
-- REJECT BZMOVING slot=<why>
do
  local answer = redis.pcall('EXISTS', P .. 'void', P .. 'void:')
  if type(answer) == 'table' then return redis.error_reply('BZMOVING slot=moving ' .. tostring(answer.err)) end
end
