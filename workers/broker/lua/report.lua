-- Keeps what a worker says of itself until it is in the database. The last report of a worker counts.
--
-- KEYS    the reports, a hash of worker to report
-- ARGV    1 worker, 2 its report, 3 of how many workers reports may wait
-- returns 1 if it is kept
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return redis.error_reply('ERR ' .. KEYS[1] .. ' is full: no process has written it to the database for a while')
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
