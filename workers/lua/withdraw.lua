-- Drops a job that no worker has started.
--
-- KEYS    job, queue, scheduled registry
-- ARGV    1 job id, 2… the statuses in which it may be dropped
-- returns 1 if it was dropped
local status = redis.call('HGET', KEYS[1], 'status')
for i = 2, #ARGV do
  if status == ARGV[i] then
    redis.call('LREM', KEYS[2], 1, ARGV[1])
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('DEL', KEYS[1])
    return 1
  end
end
return 0
