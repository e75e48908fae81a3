-- Takes the jobs that wait, up to a limit, and marks them as started, each with an execution of its
-- own: what RQ's `dequeue_any`, `prepare_execution` and `prepare_job_execution` write, in one step.
--
-- KEYS    the queues, in order of priority
-- ARGV    1 RQ's key prefix, 2 worker, 3 time as RQ writes it in jobs, 4 the same in Unix seconds,
--         5 limit, 6… as many execution ids
-- returns for each job: id, execution id, queue, data, meta, timeout, result_ttl, enqueued_at, and 1
--         if nothing in it needs more than claim and finish do (callbacks, webhooks, …)
local prefix, worker, time_text, time = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local limit = tonumber(ARGV[5])
local index = prefix .. ':worker:' .. worker .. ':executions'
local claimed, longest = {}, 0

local function claim(queue, id)
  local key = prefix .. ':job:' .. id
  local job = redis.call('HMGET', key, 'data', 'meta', 'timeout', 'result_ttl', 'enqueued_at',
    'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id',
    'webhooks', 'repeats_left', 'rate_limit_key')
  if not job[1] then
    return -- expired or deleted while it waited
  end
  local plain = job[4] ~= '0'
  for field = 6, 12 do
    plain = plain and (not job[field] or job[field] == '')
  end
  local timeout = tonumber(job[3]) or 0
  local ttl = (timeout > 0 and timeout or 420) + 60 -- as SimpleWorker.get_heartbeat_ttl
  local execution_id = ARGV[5 + #claimed + 1]
  local composite = id .. ':' .. execution_id
  local execution = prefix .. ':execution:' .. composite
  local executions = prefix .. ':executions:' .. id
  redis.call('HSET', key, 'last_heartbeat', time_text, 'status', 'started',
    'started_at', time_text, 'worker_name', worker)
  redis.call('PERSIST', key)
  redis.call('HSET', execution, 'id', execution_id, 'job_id', id, 'created_at', ARGV[4],
    'last_heartbeat', ARGV[4], 'worker_name', worker)
  redis.call('EXPIRE', execution, ttl)
  redis.call('ZADD', executions, math.floor(time) + ttl + 60, execution_id)
  redis.call('EXPIRE', executions, ttl + 60)
  redis.call('ZADD', prefix .. ':wip:' .. queue, math.floor(time) + ttl, composite)
  redis.call('SADD', index, composite)
  longest = math.max(longest, ttl)
  claimed[#claimed + 1] = {id, execution_id, queue, job[1], job[2] or '', timeout,
    tonumber(job[4]) or false, job[5] or '', plain and 1 or 0}
end

for _, key in ipairs(KEYS) do
  while #claimed < limit do
    local ids = redis.call('LPOP', key, limit - #claimed)
    if not ids or #ids == 0 then
      break
    end
    for _, id in ipairs(ids) do
      claim(string.sub(key, #prefix + 8), id) -- after "rq:queue:"
    end
  end
end

if #claimed > 0 then
  redis.call('EXPIRE', index, longest)
  local key = prefix .. ':worker:' .. worker
  redis.call('HSET', key, 'state', 'busy', 'last_heartbeat', time_text)
  redis.call('EXPIRE', key, longest)
end
return claimed
