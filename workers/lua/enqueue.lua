-- Lets a job in and enqueues it, in one step: what RQ's `enqueue_call` writes, if there is room and
-- somebody to do it.
--
-- KEYS    job, queue, the queue's leases
-- ARGV    1 RQ's key prefix, 2 job id, 3 seconds that the job may wait, 4 most jobs that may wait,
--         5… fields and values of the job
-- returns how many wait before it and how many workers are alive, and 1 if it was enqueued
local time = redis.call('TIME')
local waiting = redis.call('LLEN', KEYS[2])
local workers = redis.call('ZCOUNT', KEYS[3], time[1] + time[2] / 1e6, '+inf')
if workers == 0 or waiting >= tonumber(ARGV[4]) then
  return {waiting, workers, 0}
end
redis.call('SADD', ARGV[1] .. ':queues', KEYS[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[2])
return {waiting, workers, 1}
