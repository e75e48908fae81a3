-- A worker leaves a queue, unless its jobs would be nobody's then.
--
-- KEYS    queue, its leases, its started registry, its scheduled registry
-- ARGV    1 worker, 2 1 if somebody else has to serve it (the worker will be away for a while only)
-- returns 1 if it has left: others serve the queue, or nothing is left to do in it
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local others = redis.call('ZCOUNT', KEYS[2], now, '+inf')
local own = redis.call('ZSCORE', KEYS[2], ARGV[1])
if own and tonumber(own) >= now then
  others = others - 1
end
local done = redis.call('LLEN', KEYS[1]) == 0
  and redis.call('LLEN', KEYS[1] .. ':background') == 0 and redis.call('ZCARD', KEYS[3]) == 0
  and redis.call('ZCARD', KEYS[4]) == 0
if others > 0 or (done and ARGV[2] ~= '1') then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 1
end
return 0
