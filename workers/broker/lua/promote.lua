-- Puts the jobs whose retry is due at the end of the queue. One script, so that no job is between
-- two places if we die.
--
-- KEYS    scheduled registry, queue
-- ARGV    1 time in Unix seconds, 2 prefix of job keys, 3 how many at most, 4 the queued status
-- returns how many were put back
local due = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, ARGV[3])
local put = 0
for _, id in ipairs(due) do
  if redis.call('EXISTS', ARGV[2] .. id) == 1 then
    -- First what a full memory refuses; see claim.lua.
    redis.call('HSET', ARGV[2] .. id, 'status', ARGV[4])
    local lane, inputs = unpack(redis.call('HMGET', ARGV[2] .. id, 'lane', 'inputs'))
    for _ = 1, inputs or 1 do
      redis.call('RPUSH', KEYS[2] .. (lane and ':' .. lane or ''), id)
    end
    put = put + 1
  end
  redis.call('ZREM', KEYS[1], id)
end
return put
