-- Writes the answers of jobs that succeeded: what RQ's `handle_job_success` writes, in one step.
--
-- ARGV    1 RQ's key prefix, 2 worker, 3 time as RQ writes it in jobs, 4 the same in Unix seconds,
--         5 seconds the worker has worked on them, then for each job: id, execution id, queue,
--         result_ttl, when it was started in Unix seconds, answer in base64 (see wire.pack)
-- returns for each job: 1 written; 0 not, the job isn't this worker's any more (fencing: it was given to
--         another worker, answered or deleted); 2 not, other jobs depend on this job
local prefix, worker, time_text = ARGV[1], ARGV[2], ARGV[3]
local time = tonumber(redis.call('TIME')[1]) -- see claim.lua
local index = prefix .. ':worker:' .. worker .. ':executions'
local outcomes, written = {}, 0

-- A full memory has to be an error before anything is done; see claim.lua.
local worker_key = prefix .. ':worker:' .. worker
redis.call('HSET', worker_key, 'last_heartbeat', time_text)
if redis.call('TTL', worker_key) < 0 then
  redis.call('EXPIRE', worker_key, 480) -- it was gone; as long as RQ keeps it
end

local function finish(id, execution_id, queue, ttl, started, answer)
  local key = prefix .. ':job:' .. id
  local composite = id .. ':' .. execution_id
  local results = prefix .. ':results:' .. id
  if redis.call('EXISTS', key .. ':dependents') == 1 then
    return 2
  end
  redis.call('ZREM', prefix .. ':wip:' .. queue, composite)
  redis.call('ZREM', prefix .. ':executions:' .. id, execution_id)
  redis.call('SREM', index, composite)
  redis.call('DEL', prefix .. ':execution:' .. composite)
  -- By the job itself, since the execution may expire.
  local status, owner = unpack(redis.call('HMGET', key, 'status', 'worker_name'))
  if status ~= 'started' or owner ~= worker then
    return 0
  end
  redis.call('HSET', key, 'status', 'finished', 'ended_at', time_text, 'last_heartbeat', time_text)
  -- A new stream holds 4 KB in reserve for entries to come. Its copy doesn't.
  local first = redis.call('EXISTS', results) == 0
  local stream = first and results .. ':new' or results
  redis.call('XADD', stream, 'MAXLEN', '~', 10, '*', 'type', 1, 'worker_name', worker,
    'return_value', answer, 'execution_id', execution_id, 'execution_started_at', started,
    'execution_ended_at', ARGV[4])
  if first then
    redis.call('COPY', stream, results)
    redis.call('DEL', stream)
  end
  if ttl < 0 then
    redis.call('ZADD', prefix .. ':finished:' .. queue, '+inf', id)
  else
    redis.call('EXPIRE', results, ttl)
    redis.call('EXPIRE', key, ttl)
    redis.call('ZADD', prefix .. ':finished:' .. queue, time + ttl, id)
  end
  written = written + 1
  return 1
end

for first = 6, #ARGV, 6 do
  outcomes[#outcomes + 1] = finish(ARGV[first], ARGV[first + 1], ARGV[first + 2],
    tonumber(ARGV[first + 3]), ARGV[first + 4], ARGV[first + 5])
end
if written > 0 then
  redis.call('HINCRBY', worker_key, 'successful_job_count', written)
  redis.call('HINCRBYFLOAT', worker_key, 'total_working_time', ARGV[5])
end
return outcomes
