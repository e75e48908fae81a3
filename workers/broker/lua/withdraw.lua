-- Drops a job that no worker has started.
--
-- KEYS    job, the list of its queue's lane, scheduled registry
-- ARGV    1 job id, 2… the statuses in which it may be dropped
-- returns in how many crashes it was, if it was dropped; nothing otherwise
local status, crashes, inputs, client = unpack(redis.call('HMGET', KEYS[1], 'status', 'crashes', 'inputs',
  'client'))
for i = 2, #ARGV do
  if status == ARGV[i] then
    redis.call('LREM', KEYS[2], inputs or 1, ARGV[1])
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('DEL', KEYS[1])
    if client and redis.call('ZREM', 'velo:open:' .. client, ARGV[1] .. ':' .. (inputs or 1)) == 1 then
      redis.call('DECRBY', 'velo:open:' .. client .. ':inputs', inputs or 1)
    end
    return tonumber(crashes or 0)
  end
end
return false
