-- Takes a seat that nobody holds, or renews the holder's own.
--
-- KEYS    the seat
-- ARGV    1 token of the process, 2 milliseconds that the seat lasts
-- returns 1 if the process holds the seat now
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
