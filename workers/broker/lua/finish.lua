-- Writes the answers of jobs that succeeded: what RQ's `handle_job_success` writes, in one step.
--
-- Counts what they used, in the same step: exact, whichever process dies when.
--
-- KEYS    1 the figures that wait for the database, 2 the totals for Prometheus
-- ARGV    1 RQ's key prefix, 2 worker, 3 time as RQ writes it in jobs, 4 the same in Unix seconds,
--         5 seconds the worker has worked on them, then for each job: id, execution id, queue,
--         result_ttl, when it was started in Unix seconds, answer in base64 (see wire.pack), the client
--         that asked or nothing, how many inputs it has, how many of them are answered, their tokens, and
--         the version that answered
-- returns for each job: 1 written; 0 not, the job isn't this worker's any more (fencing: it was given to
--         another worker, answered or deleted); 2 not, other jobs depend on this job
local prefix, worker, time_text = ARGV[1], ARGV[2], ARGV[3]
local time = tonumber(redis.call('TIME')[1]) -- see claim.lua
local index = prefix .. ':worker:' .. worker .. ':executions'
local outcomes, written = {}, 0
local DAY = 86400
local today = math.floor(time / DAY)
-- Inputs and tokens by client and version, by client, and by version.
local used, clients, versions = {}, {}, {}

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

local function add(counts, key, inputs, tokens)
  local so_far = counts[key] or {0, 0}
  counts[key] = {so_far[1] + inputs, so_far[2] + tokens}
end

local function release(client, id, inputs)
  local open = 'velo:open:' .. client
  if redis.call('ZREM', open, id .. ':' .. inputs) == 1 then
    redis.call('DECRBY', open .. ':inputs', inputs)
  end
end

for first = 6, #ARGV, 11 do
  local outcome = finish(ARGV[first], ARGV[first + 1], ARGV[first + 2], tonumber(ARGV[first + 3]),
    ARGV[first + 4], ARGV[first + 5])
  outcomes[#outcomes + 1] = outcome
  local client, inputs, tokens = ARGV[first + 6], tonumber(ARGV[first + 8]), tonumber(ARGV[first + 9])
  if outcome == 1 and client ~= '' then
    release(client, ARGV[first], ARGV[first + 7])
    add(clients, client, inputs, tokens)
  end
  if outcome == 1 and inputs > 0 then
    add(used, cjson.encode({'usage', client, ARGV[first + 10], tostring(today)}), inputs, tokens)
    add(versions, ARGV[first + 10], inputs, tokens)
  end
end
for words, counts in pairs(used) do
  -- As ledger.Field: JSON, with one word more.
  local field = string.sub(words, 1, -2)
  redis.call('HINCRBYFLOAT', KEYS[1], field .. ',"inputs"]', counts[1])
  redis.call('HINCRBYFLOAT', KEYS[1], field .. ',"tokens"]', counts[2])
end
for version, counts in pairs(versions) do
  redis.call('HINCRBYFLOAT', KEYS[2], cjson.encode({'velo_inputs', version}), counts[1])
  redis.call('HINCRBYFLOAT', KEYS[2], cjson.encode({'velo_tokens', version}), counts[2])
end
for client, counts in pairs(clients) do
  local key = 'velo:tokens:' .. client .. ':' .. today
  redis.call('INCRBY', key, counts[2])
  redis.call('EXPIRE', key, 2 * DAY)
end
if written > 0 then
  redis.call('HINCRBY', worker_key, 'successful_job_count', written)
  redis.call('HINCRBYFLOAT', worker_key, 'total_working_time', ARGV[5])
end
return outcomes
