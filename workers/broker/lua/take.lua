-- Sets aside all figures and losses that wait for the database, as a batch with a name. As long as a batch
-- isn't settled, the same batch is taken again.
--
-- KEYS    1 the figures, 2 the losses, 3 the batch's figures, 4 its losses, 5 its name
-- ARGV    a name for a new batch
-- returns the batch's name, its fields and numbers, its losses; nothing if nothing waits
local name = redis.call('GET', KEYS[5])
if not name then
  if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
    return {}
  end
  name = ARGV[1]
  redis.call('SET', KEYS[5], name)
  for i = 1, 2 do
    if redis.call('EXISTS', KEYS[i]) == 1 then
      redis.call('RENAME', KEYS[i], KEYS[i + 2])
    end
  end
end
return {name, redis.call('HGETALL', KEYS[3]), redis.call('LRANGE', KEYS[4], 0, -1)}
