-- Counts the workers that share cores.
--
-- KEYS    the workers that share them, by the end of what they said
-- ARGV    1 worker, 2 seconds for which it counts
-- returns how many they are, with this worker
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[2]))
return redis.call('ZCARD', KEYS[1])
