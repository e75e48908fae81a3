-- Takes the jobs that wait, up to a limit, and marks them as started, each with an execution of its
-- own: what RQ's `dequeue_any`, `prepare_execution` and `prepare_job_execution` write, in one step.
--
-- A suspect, a job in flight when a worker died, is claimed alone or, if it may not be, stays first in
-- its queue and holds up what is behind it.
--
-- KEYS    the leases of all workers, then the queues, in order of priority
-- ARGV    1 RQ's key prefix, 2 worker, 3 time as RQ writes it in jobs, 4 the same in Unix seconds,
--         5 limit, 6 1 if a suspect may be claimed, 7… as many execution ids as the limit
-- returns the server's time, or nothing if the worker's lease is over (fencing: its jobs may be
--         given to others); then, unless RQ is suspended, for each job: id, execution id, queue, data, meta, timeout,
--         result_ttl, enqueued_at, 1 if nothing in it needs more than claim and finish do
--         (callbacks, webhooks, …), and 1 if it is a suspect
local prefix, worker, time_text = ARGV[1], ARGV[2], ARGV[3]
local limit, suspects = tonumber(ARGV[5]), ARGV[6] == '1'
local index = prefix .. ':worker:' .. worker .. ':executions'
local seconds, microseconds = unpack(redis.call('TIME'))
local time = tonumber(seconds) -- not the worker's, whose clock may be wrong: others judge by it
local now = seconds + microseconds / 1e6
local claimed, longest = {string.format('%.6f', now)}, 0

local lease = redis.call('ZSCORE', KEYS[1], worker)
if not lease or tonumber(lease) < now then
  return {}
end

if redis.call('EXISTS', prefix .. ':suspended') == 1 then
  return claimed
end

-- A full memory has to be an error before the first job leaves its queue: Redis refuses this command,
-- and a script whose first writing command it has let through it lets end.
local function refuse_if_full()
  redis.call('HSET', prefix .. ':worker:' .. worker, 'last_heartbeat', time_text)
end

local function is_suspect(id)
  return tonumber(redis.call('HGET', prefix .. ':job:' .. id, 'crashes') or 0) > 0
end

-- An error here would lose the others that have just left the queue.
local function is_job(id)
  return redis.call('TYPE', prefix .. ':job:' .. id).ok == 'hash'
end

local function claim(queue, id)
  local key = prefix .. ':job:' .. id
  local job = redis.call('HMGET', key, 'data', 'meta', 'timeout', 'result_ttl', 'enqueued_at',
    'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id',
    'webhooks', 'repeats_left', 'rate_limit_key', 'crashes')
  if not job[1] then
    return
  end
  local plain = job[4] ~= '0'
  for field = 6, 12 do
    plain = plain and (not job[field] or job[field] == '')
  end
  local timeout = math.min(tonumber(job[3]) or 0, 1e9)
  local ttl = (timeout > 0 and timeout or 420) + 60 -- as SimpleWorker.get_heartbeat_ttl
  local execution_id = ARGV[6 + #claimed]
  local composite = id .. ':' .. execution_id
  local execution = prefix .. ':execution:' .. composite
  local executions = prefix .. ':executions:' .. id
  redis.call('HSET', key, 'last_heartbeat', time_text, 'status', 'started',
    'started_at', time_text, 'worker_name', worker)
  redis.call('PERSIST', key)
  redis.call('HSET', execution, 'id', execution_id, 'job_id', id, 'created_at', ARGV[4],
    'last_heartbeat', ARGV[4], 'worker_name', worker)
  redis.call('EXPIRE', execution, ttl)
  redis.call('ZADD', executions, time + ttl + 60, execution_id)
  redis.call('EXPIRE', executions, ttl + 60)
  redis.call('ZADD', prefix .. ':wip:' .. queue, time + ttl, composite)
  redis.call('SADD', index, composite)
  longest = math.max(longest, ttl)
  claimed[#claimed + 1] = {id, execution_id, queue, job[1], job[2] or '', timeout,
    tonumber(job[4]) or false, job[5] or '', plain and 1 or 0, job[13] and 1 or 0}
end

-- Whether more may be claimed.
local function claim_from(key)
  local queue = string.sub(key, #prefix + 8) -- after "rq:queue:"
  while #claimed <= limit do
    local ids = redis.call('LPOP', key, limit + 1 - #claimed)
    if not ids or #ids == 0 then
      return true
    end
    for number, id in ipairs(ids) do
      if not is_job(id) then
        -- expired or deleted while it waited
      elseif is_suspect(id) then
        local taken = suspects and #claimed == 1
        if taken then
          claim(queue, id)
        end
        for rest = #ids, number + (taken and 1 or 0), -1 do
          redis.call('LPUSH', key, ids[rest])
        end
        return false
      else
        claim(queue, id)
      end
    end
  end
  return false
end

for number = 2, #KEYS do
  if redis.call('EXISTS', KEYS[number]) == 1 then
    refuse_if_full()
    if not claim_from(KEYS[number]) then
      break
    end
  end
end

if #claimed > 1 then
  redis.call('EXPIRE', index, longest)
  local key = prefix .. ':worker:' .. worker
  redis.call('HSET', key, 'state', 'busy', 'last_heartbeat', time_text)
  redis.call('EXPIRE', key, longest)
end
return claimed
