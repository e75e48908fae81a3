-- Takes the jobs that wait, up to a limit, and marks them as started, each with an execution of its
-- own: what RQ's `dequeue_any`, `prepare_execution` and `prepare_job_execution` write, in one step.
--
-- A worker claims its share, no more: what waits in a queue and what is in hand of it, divided by the
-- live workers that serve it, less what the worker has in hand already. So nobody hoards what another
-- worker could start. It claims half of the share with an empty hand and the rest ahead, while it computes.
-- A worker that is alone claims all. Limits and shares count inputs. A job with several inputs stands in
-- its queue once for each, and is claimed whole.
--
-- A suspect, a job in flight when a worker died, is claimed alone or, if it may not be, stays first in
-- its queue and holds up what is behind it. Of heavy jobs, which have many bytes, not more are claimed
-- at a time than a worker can prepare soon; they hold up nothing but each other.
--
-- KEYS    the leases of all workers, then the queues, in order of priority
-- ARGV    1 RQ's key prefix, 2 worker, 3 time as RQ writes it in jobs, 4 the same in Unix seconds,
--         5 limit, 6 1 if nothing is in hand: a suspect may be claimed, and one job in any case, 7 bytes of heavy jobs at most, unless the first
--         one alone has more, 8 inputs in hand beyond one for each job in hand, 9… as many execution ids
--         as the limit
-- returns the server's time, or nothing if the worker's lease is over (fencing: its jobs may be
--         given to others); then, unless RQ is suspended, for each job: id, execution id, queue,
--         data, meta, timeout, result_ttl, enqueued_at, 1 if nothing in it needs more than claim and finish do
--         (callbacks, webhooks, …), 1 if it is a suspect, how many inputs it has, the id
--         of its request, and the client that asked
local prefix, worker, time_text = ARGV[1], ARGV[2], ARGV[3]
local limit, suspects, heavy = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local BACKGROUND_TURN = 20
local looked_at = 1000 -- heavy jobs that are left where they are
local index = prefix .. ':worker:' .. worker .. ':executions'
local seconds, microseconds = unpack(redis.call('TIME'))
local time = tonumber(seconds) -- not the worker's, whose clock may be wrong: others judge by it
local now = seconds + microseconds / 1e6
local claimed, longest, bytes = {string.format('%.6f', now)}, 0, 0
local taken = 0 -- inputs claimed now

local lease = redis.call('ZSCORE', KEYS[1], worker)
if not lease or tonumber(lease) < now then
  return {}
end

if redis.call('EXISTS', prefix .. ':suspended') == 1 then
  return claimed
end

local jobs = redis.call('SCARD', index)
local own = jobs + ARGV[8] -- inputs
local inputs_per_job = jobs > 0 and own / jobs or 1

-- A full memory has to be an error before the first job leaves its queue: Redis refuses this command,
-- and a script whose first writing command it has let through it lets end.
local function refuse_if_full()
  redis.call('HSET', prefix .. ':worker:' .. worker, 'last_heartbeat', time_text)
end

-- Of one queue's inputs; not always a whole number. `first`: of a worker with nothing in hand.
local function share(waiting, in_hand, workers, first)
  local part = (waiting + in_hand) / workers
  return first and workers > 1 and part / 2 or part
end

local function share_of(queue, key)
  local waiting = redis.call('LLEN', key)
  -- About: Redis knows of jobs, and other workers' jobs are taken to have as many inputs as its own.
  local in_hand = redis.call('ZCOUNT', prefix .. ':wip:' .. queue, time, '+inf') * inputs_per_job
  local workers = redis.call('ZCOUNT', 'velo:leases:' .. queue, now, '+inf')
  return waiting, share(waiting, in_hand, math.max(workers, 1), suspects)
end

local function weight(id)
  local job = redis.call('HMGET', prefix .. ':job:' .. id, 'crashes', 'bytes', 'inputs')
  return tonumber(job[1] or 0) > 0, tonumber(job[2] or 0), tonumber(job[3] or 1)
end

-- It may have expired, or have been deleted or canceled, while it waited. An error here would lose the
-- others that have just left the queue.
local function is_job(id)
  local key = prefix .. ':job:' .. id
  return redis.call('TYPE', key).ok == 'hash' and redis.call('HGET', key, 'status') ~= 'canceled'
end

local function claim(queue, id, inputs)
  local key = prefix .. ':job:' .. id
  local job = redis.call('HMGET', key, 'data', 'meta', 'timeout', 'result_ttl', 'enqueued_at',
    'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id',
    'webhooks', 'repeats_left', 'rate_limit_key', 'crashes', 'request', 'client')
  if not job[1] then
    return
  end
  local plain = job[4] ~= '0'
  for field = 6, 12 do
    plain = plain and (not job[field] or job[field] == '')
  end
  local timeout = math.min(tonumber(job[3]) or 0, 1e9)
  local ttl = (timeout > 0 and timeout or 420) + 60 -- as SimpleWorker.get_heartbeat_ttl
  local execution_id = ARGV[8 + #claimed]
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
    tonumber(job[4]) or false, job[5] or '', plain and 1 or 0, job[13] and 1 or 0, inputs,
    job[14] or '', job[15] or ''}
  taken = taken + inputs
end

-- Of one list, until `most` inputs are claimed in all; returns whether more may be claimed of others.
local function claim_from(queue, key, most)
  local left = {}
  local more = true
  local last, inputs_left = nil, 0 -- the job claimed last: how often it may still stand in the list
  while more and taken < most and #left < looked_at do
    local ids = redis.call('LPOP', key, most - taken)
    if not ids or #ids == 0 then
      break
    end
    for number, id in ipairs(ids) do
      if id == last then
        inputs_left = inputs_left - 1
      elseif is_job(id) then
        local is_suspect, its_bytes, inputs = weight(id)
        if is_suspect then
          local alone = suspects and #claimed == 1
          if alone then
            claim(queue, id, inputs)
            last, inputs_left = id, inputs - 1
          end
          for rest = #ids, number + (alone and 1 or 0), -1 do
            redis.call('LPUSH', key, ids[rest])
          end
          more = false
          break
        elseif its_bytes > 0 and bytes > 0 and bytes + its_bytes > heavy then
          left[#left + 1] = id
        else
          bytes = bytes + its_bytes
          claim(queue, id, inputs)
          last, inputs_left = id, inputs - 1
        end
      end
    end
  end
  if inputs_left > 0 then
    redis.call('LREM', key, inputs_left, last)
  end
  for number = #left, 1, -1 do
    redis.call('LPUSH', key, left[number])
  end
  return more
end

-- Of all queues; returns whether nothing was there to be claimed.
local function claim_lane(suffix)
  local found, shares = {}, 0
  for number = 2, #KEYS do
    local key = KEYS[number] .. suffix
    local queue = string.sub(KEYS[number], #prefix + 8) -- after "rq:queue:"
    local waiting, part = share_of(queue, key)
    shares = shares + part
    if waiting > 0 then
      found[#found + 1] = {queue = queue, key = key, part = math.ceil(part)}
    end
  end
  local allowed = math.ceil(shares - own - 1e-6) -- less what fractions lose
  allowed = math.min(limit, math.max(allowed, suspects and 1 or 0))
  for _, one in ipairs(found) do
    if taken >= allowed then
      return false
    end
    refuse_if_full()
    if not claim_from(one.queue, one.key, math.min(allowed, taken + one.part)) then
      return false
    end
  end
  return #claimed == 1
end

-- Background jobs take what interactive jobs leave, and one claim in BACKGROUND_TURN.
local function is_turn_of_background()
  for number = 2, #KEYS do
    if redis.call('EXISTS', KEYS[number] .. ':background') == 1 then
      return redis.call('INCR', 'velo:background-turn') % BACKGROUND_TURN == 0
    end
  end
  return false
end

local lanes = is_turn_of_background() and {':background', ''} or {'', ':background'}
if claim_lane(lanes[1]) then
  claim_lane(lanes[2])
end

if #claimed > 1 then
  redis.call('EXPIRE', index, longest)
  local key = prefix .. ':worker:' .. worker
  redis.call('HSET', key, 'state', 'busy', 'last_heartbeat', time_text)
  redis.call('EXPIRE', key, longest)
end
return claimed
