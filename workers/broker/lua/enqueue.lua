-- Lets jobs in and enqueues them, in one step: what RQ's `enqueue_call` writes, if there is room and
-- somebody to do them. A job that is there already, because the answer to an earlier call was lost,
-- is let in and left as it is. A job with several inputs stands in the list once for each, so that the
-- list is as long as inputs wait.
--
-- KEYS    the list of the queue's lane, the queue's leases, and a stream to ring if anybody listens there
-- ARGV    1 RQ's key prefix, 2 most inputs that may wait; negative: the jobs were let in before, so
--         they are let in at the front, however many wait and also while nobody is alive, 3 how many words
--         follow, 4… fields and values that all the jobs have, then for each job: id, data, description, for how many seconds
--         somebody waits, in how many crashes it was, seconds that it may wait, its bytes if they are
--         many or else 0, its inputs, and the size of the group that begins with it or 0 within a group.
--         A group is let in whole or not at all.
-- returns how many inputs wait before them, how many workers are alive, how many of the jobs, from
--         the first on, were admitted, and the server's time
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local waiting = redis.call('LLEN', KEYS[1])
local workers = redis.call('ZCOUNT', KEYS[2], now, '+inf')
local most = tonumber(ARGV[2])
local first = 4 + ARGV[3]
local count = (#ARGV - first + 1) / 9
local push = most < 0 and 'LPUSH' or 'RPUSH'
-- Whether anybody is alive or not, a Redis that refuses to be written to says so here. By the queue
-- of RQ's, whatever the lane.
redis.call('SADD', ARGV[1] .. ':queues', ARGV[1] .. ':queue:' .. string.sub(KEYS[2], #'velo:leases:' + 1))

local function is_known(i)
  return redis.call('EXISTS', ARGV[1] .. ':job:' .. ARGV[i]) == 1
end

local function enqueue(i)
  local key = ARGV[1] .. ':job:' .. ARGV[i]
  -- "f4": its reader takes float32 (see wire.pack). Four decimals, since a job whose fields have at most
  -- 64 bytes each takes half the memory in Redis.
  local meta = string.format('{"enqueued":%.4f,"deadline":%.4f,"f4":1}', now, now + ARGV[i + 3])
  redis.call('HSET', key, 'data', ARGV[i + 1], 'description', ARGV[i + 2], 'meta', meta,
    'ttl', ARGV[i + 5], unpack(ARGV, 4, first - 1))
  if ARGV[i + 4] ~= '0' then
    redis.call('HSET', key, 'crashes', ARGV[i + 4])
  end
  if ARGV[i + 6] ~= '0' then
    redis.call('HSET', key, 'bytes', ARGV[i + 6])
  end
  redis.call('EXPIRE', key, ARGV[i + 5])
  local inputs = tonumber(ARGV[i + 7])
  if inputs > 1 then
    redis.call('HSET', key, 'inputs', inputs)
  end
  for _ = 1, inputs do
    redis.call(push, KEYS[1], ARGV[i])
  end
end

local admitted, length = 0, waiting
while admitted < count do
  local begin = first + 9 * admitted
  local size = tonumber(ARGV[begin + 8])
  local last = begin + 9 * (size - 1)
  if not is_known(begin) then
    local inputs = 0
    for i = begin, last, 9 do
      inputs = inputs + ARGV[i + 7]
    end
    -- A large group has no more than an empty queue to wait for.
    local fits = length + inputs <= most or (length == 0 and inputs > 1)
    if most >= 0 and (workers == 0 or not fits) then
      break
    end
    for i = begin, last, 9 do
      enqueue(i)
    end
    length = length + inputs
  end
  admitted = admitted + size
end
if admitted > 0 and KEYS[3] then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'jobs', admitted)
  redis.call('EXPIRE', KEYS[3], 60)
end
return {waiting, workers, admitted, string.format('%.6f', now)}
