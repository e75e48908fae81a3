-- Forgets reports that the database has, unless the worker has sent a newer report meanwhile.
--
-- KEYS    the reports
-- ARGV    pairs of worker and report
-- returns how many are forgotten
local forgotten = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    forgotten = forgotten + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return forgotten
