-- Lets jobs in and enqueues them, in one step: what RQ's `enqueue_call` writes, if there is room and
-- somebody to do them. A job that is there already, because the answer to an earlier call was lost,
-- is let in and left as it is.
--
-- KEYS    queue, the queue's leases, and a stream to ring if anybody listens there
-- ARGV    1 RQ's key prefix, 2 seconds that a job may wait, 3 most jobs that may wait, 4 how many words
--         follow, 5… fields and values that all the jobs have, then for each job: id, data,
--         description, for how many seconds somebody waits, and in how many crashes it was
-- returns how many wait before them, how many workers are alive, how many of the jobs, from
--         the first on, were admitted, and the server's time
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local waiting = redis.call('LLEN', KEYS[1])
local workers = redis.call('ZCOUNT', KEYS[2], now, '+inf')
local first = 5 + ARGV[4]
local count = (#ARGV - first + 1) / 5
-- Whether anybody is alive or not, a Redis that refuses to be written to says so here.
redis.call('SADD', ARGV[1] .. ':queues', KEYS[1])
local known = 0
while known < count
    and redis.call('EXISTS', ARGV[1] .. ':job:' .. ARGV[first + 5 * known]) == 1 do
  known = known + 1
end
local room = workers > 0 and math.max(0, tonumber(ARGV[3]) - waiting) or 0
local admitted = known + math.min(room, count - known)
for i = first + 5 * known, first + 5 * (admitted - 1), 5 do
  local key = ARGV[1] .. ':job:' .. ARGV[i]
  local meta = string.format('{"enqueued":%.6f,"deadline":%.6f}', now, now + ARGV[i + 3])
  redis.call('HSET', key, 'data', ARGV[i + 1], 'description', ARGV[i + 2], 'meta', meta,
    unpack(ARGV, 5, first - 1))
  if ARGV[i + 4] ~= '0' then
    redis.call('HSET', key, 'crashes', ARGV[i + 4])
  end
  redis.call('EXPIRE', key, ARGV[2])
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
if admitted > 0 and KEYS[3] then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'jobs', admitted)
  redis.call('EXPIRE', KEYS[3], 60)
end
return {waiting, workers, admitted, string.format('%.6f', now)}
