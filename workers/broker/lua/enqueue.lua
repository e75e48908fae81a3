-- Lets jobs in and enqueues them, in one step: what RQ's `enqueue_call` writes, if there is room, somebody
-- to do them, and their client is within its limits. A job that is there already, because the answer to an
-- earlier call was lost, is let in and left as it is. A job with several inputs stands in the list once for
-- each, so that the list is as long as inputs wait.
--
-- KEYS    the list of the queue's lane, the queue's leases, and a stream to ring if anybody listens there
-- ARGV    1 RQ's key prefix, 2 most inputs that may wait; negative: the jobs were let in before, so
--         they are let in at the front, however many wait and also while nobody is alive, 3 how many words
--         follow, 4… fields and values that all the jobs have; then how many groups there are, and for
--         each group: how many jobs it has, the id of its request, its client or nothing, and the client's
--         limits, 0 for none: inputs a minute, tokens a day, inputs at once; then for each job: id,
--         data, description, for how many seconds somebody waits, in how many crashes it was, seconds that
--         it may wait, its bytes if they are many or else 0, and its inputs. A group is let in whole or
--         not at all.
-- returns how many inputs wait before them, how many workers are alive, the server's time, then for each
--         group: 1 admitted, 0 no room or nobody, or the limit that it is over: 2 inputs a minute, 3
--         tokens a day, 4 inputs at once; seconds until it may be sent again; how many inputs the client
--         may still send, or -1; seconds until these are as many as in a minute; its tokens that are
--         left today, or -1; seconds until the day ends
local prefix, most = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local waiting = redis.call('LLEN', KEYS[1])
local workers = redis.call('ZCOUNT', KEYS[2], now, '+inf')
local push = most < 0 and 'LPUSH' or 'RPUSH'
local group_words, job_words = 6, 8
local next_group = 5 + ARGV[3]
local next_job = next_group + group_words * ARGV[next_group - 1]
local DAY, MINUTE, CLIENTS, OPEN = 86400, 60, 'velo:clients', 'velo:open:'
local today = math.floor(time[1] / DAY)
local day_ends_in = DAY - time[1] % DAY
-- Whether anybody is alive or not, a Redis that refuses to be written to says so here. By the queue
-- of RQ's, whatever the lane.
redis.call('SADD', prefix .. ':queues', prefix .. ':queue:' .. string.sub(KEYS[2], #'velo:leases:' + 1))

local function is_known(id)
  return redis.call('EXISTS', prefix .. ':job:' .. id) == 1
end

-- Inputs of a client that wait or are computed. What nobody has released counts until its deadline.
local function open_of(client)
  local key = OPEN .. client
  local over = redis.call('ZRANGEBYSCORE', key, '-inf', now)
  for _, member in ipairs(over) do
    redis.call('DECRBY', key .. ':inputs', string.match(member, '[^:]*$'))
    redis.call('ZREM', key, member)
  end
  return tonumber(redis.call('GET', key .. ':inputs') or 0)
end

-- A token bucket, full at first: what is in it, by now.
local function bucket_of(client, limit)
  local kept = redis.call('HMGET', 'velo:bucket:' .. client, 'level', 'at')
  local level, at = tonumber(kept[1] or limit), tonumber(kept[2] or now)
  return math.min(limit, level + math.max(0, now - at) * limit / MINUTE)
end

local function tokens_of(client)
  return tonumber(redis.call('GET', 'velo:tokens:' .. client .. ':' .. today) or 0)
end

-- What a client of a full queue may have: all have the same.
local function share()
  redis.call('ZREMRANGEBYSCORE', CLIENTS, '-inf', now)
  return most / math.max(1, redis.call('ZCARD', CLIENTS))
end

local function enqueue(i, request, client)
  local id = ARGV[i]
  local key = prefix .. ':job:' .. id
  -- "f4": its reader takes float32 (see wire.pack). Four decimals, since a job whose fields have at most
  -- 64 bytes each takes half the memory in Redis.
  local meta = string.format('{"enqueued":%.4f,"deadline":%.4f,"f4":1}', now, now + ARGV[i + 3])
  redis.call('HSET', key, 'data', ARGV[i + 1], 'description', ARGV[i + 2], 'meta', meta,
    'ttl', ARGV[i + 5], unpack(ARGV, 4, 3 + ARGV[3]))
  if ARGV[i + 4] ~= '0' then
    redis.call('HSET', key, 'crashes', ARGV[i + 4])
  end
  if ARGV[i + 6] ~= '0' then
    redis.call('HSET', key, 'bytes', ARGV[i + 6])
  end
  if request ~= '' then
    redis.call('HSET', key, 'request', request)
  end
  redis.call('EXPIRE', key, ARGV[i + 5])
  local inputs = tonumber(ARGV[i + 7])
  if inputs > 1 then
    redis.call('HSET', key, 'inputs', inputs)
  end
  for _ = 1, inputs do
    redis.call(push, KEYS[1], id)
  end
  if client ~= '' then
    local open = OPEN .. client
    local ends, keeps = now + ARGV[i + 5], math.max(DAY, ARGV[i + 5] + MINUTE)
    redis.call('HSET', key, 'client', client)
    redis.call('ZADD', open, ends, id .. ':' .. inputs)
    redis.call('EXPIRE', open, keeps)
    redis.call('INCRBY', open .. ':inputs', inputs)
    redis.call('EXPIRE', open .. ':inputs', keeps)
    redis.call('ZADD', CLIENTS, 'GT', ends, client)
  end
end

local length = waiting

-- What a group is told, and whether it is let in.
local function judge(client, inputs, per_minute, per_day, at_once)
  local level = per_minute > 0 and bucket_of(client, per_minute)
  local spent = per_day > 0 and tokens_of(client)
  local open = client ~= '' and open_of(client) or 0
  local verdict, again = 1, 0
  if workers == 0 then
    verdict = 0
  elseif spent and spent >= per_day then
    verdict, again = 3, day_ends_in
  elseif at_once > 0 and open + inputs > at_once then
    verdict, again = 4, 1
  elseif level and level < math.min(inputs, per_minute) then
    verdict, again = 2, math.ceil((math.min(inputs, per_minute) - level) * MINUTE / per_minute)
  elseif length + inputs > most and not (length == 0 and inputs > 1)
    and not (client ~= '' and open + inputs <= share()) then
    verdict = 0
  end
  if level and verdict == 1 then
    level = level - inputs -- below 0 after a request with more inputs than a minute's
    redis.call('HSET', 'velo:bucket:' .. client, 'level', string.format('%.6f', level), 'at',
      string.format('%.6f', now))
    redis.call('EXPIRE', 'velo:bucket:' .. client, math.ceil((per_minute - level) * MINUTE / per_minute) + MINUTE)
  end
  return {verdict, again,
    level and math.max(0, math.floor(level)) or -1,
    level and math.ceil((per_minute - level) * MINUTE / per_minute) or 0,
    spent and math.max(0, per_day - spent) or -1, day_ends_in}
end

local said, admitted = {waiting, workers, string.format('%.6f', now)}, 0
for _ = 1, ARGV[next_group - 1] do
  local size, request, client = tonumber(ARGV[next_group]), ARGV[next_group + 1], ARGV[next_group + 2]
  local last = next_job + job_words * (size - 1)
  local inputs = 0
  for i = next_job, last, job_words do
    inputs = inputs + ARGV[i + 7]
  end
  local verdict = {1, 0, -1, 0, -1, day_ends_in}
  if not is_known(ARGV[next_job]) then
    if most >= 0 then
      verdict = judge(client, inputs, tonumber(ARGV[next_group + 3]), tonumber(ARGV[next_group + 4]),
        tonumber(ARGV[next_group + 5]))
    end
    if verdict[1] == 1 then
      for i = next_job, last, job_words do
        enqueue(i, request, client)
      end
      length = length + inputs
    end
  end
  admitted = admitted + (verdict[1] == 1 and size or 0)
  said[#said + 1] = verdict
  next_group = next_group + group_words
  next_job = last + job_words
end
if admitted > 0 and KEYS[3] then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'jobs', admitted)
  redis.call('EXPIRE', KEYS[3], 60)
end
return said
