-- Puts jobs that have ended, or wait for their retry, at the end of their queue: somebody asked for them
-- again. A job that was in crashes keeps their count, so it stays a suspect, which runs alone.
--
-- KEYS    queue, then the registries in which such jobs stand
-- ARGV    1 RQ's key prefix, 2 the queue's name, 3 time as RQ writes it in jobs, 4… job ids
-- returns 1 for each job that was put there; 0 for the others: they are gone, belong to another queue,
--         wait or run already, or wait for other jobs or for RQ's rate limit
local again = {failed = true, stopped = true, finished = true, canceled = true, scheduled = true}
local outcomes = {}
for number = 4, #ARGV do
  local id = ARGV[number]
  local key = ARGV[1] .. ':job:' .. id
  local status, origin, limited, inputs = unpack(redis.call('HMGET', key, 'status', 'origin', 'rate_limit_key',
    'inputs'))
  local ready = again[status] and origin == ARGV[2] and (not limited or limited == '')
  if ready then
    -- First what a full memory refuses; see claim.lua.
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[3], 'started_at', '', 'ended_at', '',
      'worker_name', '')
    redis.call('PERSIST', key) -- as long as it waits
    for registry = 2, #KEYS do
      redis.call('ZREM', KEYS[registry], id)
    end
    for _ = 1, inputs or 1 do
      redis.call('RPUSH', KEYS[1], id)
    end
  end
  outcomes[#outcomes + 1] = ready and 1 or 0
end
return outcomes
