-- Leaves a seat, if the process still holds it.
--
-- KEYS    the seat
-- ARGV    token of the process
-- returns 1 if the process held it
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
