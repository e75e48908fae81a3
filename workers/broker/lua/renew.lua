-- Renews a worker's leases, by the server's clock.
--
-- KEYS    the registry of workers, the counter of changes at its place, and its leases
-- ARGV    1 worker, 2 what the registry says of it, 3 seconds that a lease lasts, 4 1 to take them
--         again, 5 seconds after its end until a lease is forgotten
-- returns 1 renewed in time; 0 renewed, but they were over already; -1 not renewed, they are gone:
--         its jobs were given away, or Redis has lost what it knew
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local outcome = 1
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('INCR', KEYS[2])
  redis.call('EXPIRE', KEYS[2], ARGV[5])
elseif redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return -1
end
for number = 3, #KEYS do
  local lease = redis.call('ZSCORE', KEYS[number], ARGV[1])
  if lease and tonumber(lease) < now then
    outcome = 0
  end
  redis.call('ZADD', KEYS[number], now + ARGV[3], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[number], 0, now - ARGV[5])
end
return outcome
