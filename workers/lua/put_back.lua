-- Puts claimed jobs back at the front of their queues, as they were before.
--
-- ARGV    1 RQ's key prefix, 2 worker, then for each job: id, execution id, queue, in the order in
--         which they were claimed
-- returns how many were put back; one that isn't this worker's any more stays where it is
local prefix, worker = ARGV[1], ARGV[2]
local put = 0
for first = #ARGV - 2, 3, -3 do
  local id, execution_id, queue = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local key = prefix .. ':job:' .. id
  local composite = id .. ':' .. execution_id
  redis.call('ZREM', prefix .. ':wip:' .. queue, composite)
  redis.call('ZREM', prefix .. ':executions:' .. id, execution_id)
  redis.call('SREM', prefix .. ':worker:' .. worker .. ':executions', composite)
  if redis.call('DEL', prefix .. ':execution:' .. composite) == 1
      and redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'status', 'queued', 'started_at', '', 'worker_name', '')
    redis.call('LPUSH', prefix .. ':queue:' .. queue, id)
    put = put + 1
  end
end
return put
