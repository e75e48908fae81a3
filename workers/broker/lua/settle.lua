-- Forgets a batch that the database has. What it couldn't take yet waits again.
--
-- KEYS    1 the figures, 2 the batch's figures, 3 its losses, 4 its name
-- ARGV    1 the name of the batch, then pairs of field and number that wait again
-- returns 1 if it was this batch
if redis.call('GET', KEYS[4]) ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV, 2 do
  redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
end
return redis.call('DEL', KEYS[2], KEYS[3], KEYS[4]) > 0 and 1 or 0
