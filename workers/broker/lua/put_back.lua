-- Puts claimed jobs back at the front of their queues: a worker its own jobs, or a live worker the jobs
-- of a dead worker. Each job is put back once, since its execution is gone then; a dead worker's
-- row in the registry likewise. A job with several inputs that was in a crash isn't put back: its answer
-- says that they are to be asked apart, since it isn't known which of them is to blame.
--
-- KEYS    none; or for a dead worker: the registry of workers, the counter of changes at its place, the
--         losses that wait for the database, and its leases
-- ARGV    1 RQ's key prefix, 2 worker, 3 how many crashes a job may be in, or 0 if this is none,
--         4 time as RQ writes it in jobs, 5 what the registry says of the worker, 6 1 if it is known
--         to be dead, otherwise all its leases must be over, 7 why it is dead, 8 the answer that says that the
--         inputs are to be asked apart, in base64, 9 seconds that it is kept; then for each job, in the
--         order in which they must be done: "job id:execution id", what is known of its crashes, with
--         this crash, and the same as RQ writes it in results
-- returns how many were put back or are to be asked apart, and how many failed, since they were in too many
--         crashes; nothing if the worker is alive or has other jobs than these, or if somebody else was first
local prefix, worker, crashes_allowed = ARGV[1], ARGV[2], tonumber(ARGV[3])
local seconds, microseconds = unpack(redis.call('TIME'))
local time = tonumber(seconds)
local key = prefix .. ':worker:' .. worker
local put, failed = 0, 0
local TOTALS = 'velo:totals' -- see ledger.py

if #KEYS > 0 then
  local unknown = redis.call('SCARD', key .. ':executions') ~= (#ARGV - 9) / 3
  if unknown or redis.call('HGET', KEYS[1], worker) ~= ARGV[5] then
    return {}
  end
  for number = 4, #KEYS do
    local lease = redis.call('ZSCORE', KEYS[number], worker)
    if ARGV[6] ~= '1' and lease and tonumber(lease) >= seconds + microseconds / 1e6 then
      return {}
    end
  end
  -- A full memory has to be an error before anything is done; see claim.lua.
  redis.call('HSET', KEYS[1], worker, ARGV[5])
  redis.call('HDEL', KEYS[1], worker)
  redis.call('INCR', KEYS[2])
  redis.call('EXPIRE', KEYS[2], 3600)
  for number = 4, #KEYS do
    redis.call('ZREM', KEYS[number], worker)
    local queue = string.sub(KEYS[number], #'velo:leases:' + 1)
    redis.call('SREM', prefix .. ':workers:' .. queue, key)
  end
  redis.call('SREM', prefix .. ':workers', key)
  redis.call('DEL', key)
end

local function fail(job, id, queue, execution_id, started, traceback)
  local ttl = tonumber(redis.call('HGET', job, 'failure_ttl') or 31536000) -- RQ's default
  local results = prefix .. ':results:' .. id
  redis.call('HSET', job, 'status', 'failed', 'ended_at', ARGV[4])
  redis.call('XADD', results, 'MAXLEN', '~', 10, '*', 'type', 2, 'worker_name', worker,
    'exc_string', traceback, 'execution_id', execution_id, 'execution_started_at', started,
    'execution_ended_at', time, 'crashes', redis.call('HGET', job, 'crashes'))
  redis.call('ZADD', prefix .. ':failed:' .. queue, ttl < 0 and -1 or time + ttl, id)
  if ttl >= 0 then
    redis.call('EXPIRE', results, ttl)
    redis.call('EXPIRE', job, ttl)
  end
  failed = failed + 1
end

-- It doesn't count among the inputs of its client any more; see enqueue.lua.
local function release(client, id, inputs)
  if client and redis.call('ZREM', 'velo:open:' .. client, id .. ':' .. inputs) == 1 then
    redis.call('DECRBY', 'velo:open:' .. client .. ':inputs', inputs)
  end
end

local function take_apart(job, id, queue, execution_id, started)
  local results, ttl = prefix .. ':results:' .. id, tonumber(ARGV[9])
  redis.call('HSET', job, 'status', 'finished', 'ended_at', ARGV[4])
  redis.call('XADD', results, 'MAXLEN', '~', 10, '*', 'type', 1, 'worker_name', worker,
    'return_value', ARGV[8], 'execution_id', execution_id, 'execution_started_at', started,
    'execution_ended_at', time)
  redis.call('ZADD', prefix .. ':finished:' .. queue, time + ttl, id)
  redis.call('EXPIRE', results, ttl)
  redis.call('EXPIRE', job, ttl)
  put = put + 1
end

for first = #ARGV - 2, 10, -3 do
  local composite = ARGV[first]
  local id, execution_id = string.match(composite, '^(.*):([^:]*)$')
  local job, execution = prefix .. ':job:' .. id, prefix .. ':execution:' .. composite
  local queue, status, owner, lane, inputs, client = unpack(redis.call('HMGET', job, 'origin', 'status',
    'worker_name', 'lane', 'inputs', 'client'))
  local started = redis.call('HGET', execution, 'created_at') or ''
  if status == 'started' and owner == worker then
    -- First what a full memory refuses.
    redis.call('HSET', job, 'started_at', '', 'worker_name', '')
    local crashes = 0
    if crashes_allowed > 0 then
      crashes = redis.call('HINCRBY', job, 'crashes', 1)
      redis.call('HSET', job, 'crash_log', ARGV[first + 1])
    end
    if crashes_allowed > 0 and inputs then
      take_apart(job, id, queue, execution_id, started)
      release(client, id, inputs)
    elseif crashes_allowed > 0 and crashes >= crashes_allowed then
      fail(job, id, queue, execution_id, started, ARGV[first + 2])
      release(client, id, 1)
    else
      redis.call('HSET', job, 'status', 'queued')
      for _ = 1, inputs or 1 do
        redis.call('LPUSH', prefix .. ':queue:' .. queue .. (lane and ':' .. lane or ''), id)
      end
      put = put + 1
    end
    redis.call('ZREM', prefix .. ':wip:' .. queue, composite)
    redis.call('DEL', execution)
  end
  redis.call('ZREM', prefix .. ':executions:' .. id, execution_id)
  redis.call('SREM', key .. ':executions', composite)
end
if crashes_allowed > 0 then
  redis.call('HINCRBY', TOTALS, '["velo_rescued_jobs"]', put)
  redis.call('HINCRBY', TOTALS, '["velo_poisonous_jobs"]', failed)
end
if #KEYS > 0 then
  redis.call('HINCRBY', TOTALS, '["velo_lost_workers"]', 1)
  redis.call('RPUSH', KEYS[3], cjson.encode({worker = worker, why = ARGV[7], rescued = put, failed = failed}))
  redis.call('LTRIM', KEYS[3], -1000, -1)
end
return {put, failed}
