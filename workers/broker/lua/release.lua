-- A job that has failed for good doesn't count among the inputs of its client any more; see enqueue.lua.
--
-- KEYS    job
-- ARGV    1 job id
-- returns 1 if it counted until now
local client, inputs = unpack(redis.call('HMGET', KEYS[1], 'client', 'inputs'))
local open = 'velo:open:' .. (client or '')
if not client or redis.call('ZREM', open, ARGV[1] .. ':' .. (inputs or 1)) == 0 then
  return 0
end
redis.call('DECRBY', open .. ':inputs', inputs or 1)
return 1
