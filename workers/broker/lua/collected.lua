-- Lets answers that their callers have collected expire soon, and takes what has expired off the lists of
-- finished jobs, which RQ does every ten minutes.
--
-- ARGV    1 RQ's key prefix, 2 seconds that they stay, then for each job: id, queue
-- returns how many expire sooner than before
local prefix, seconds = ARGV[1], tonumber(ARGV[2])
local time = tonumber(redis.call('TIME')[1]) -- see claim.lua
local queues, shortened = {}, 0
for i = 3, #ARGV, 2 do
  local id, queue = ARGV[i], ARGV[i + 1]
  local key = prefix .. ':job:' .. id
  -- It isn't finished any more if a person has asked for it again meanwhile.
  if redis.call('HGET', key, 'status') == 'finished' and redis.call('TTL', key) > seconds then
    redis.call('EXPIRE', key, seconds)
    redis.call('EXPIRE', prefix .. ':results:' .. id, seconds)
    redis.call('ZADD', prefix .. ':finished:' .. queue, 'XX', time + seconds, id)
    shortened = shortened + 1
  end
  queues[queue] = true
end
for queue in pairs(queues) do
  redis.call('ZREMRANGEBYSCORE', prefix .. ':finished:' .. queue, 0, time)
end
return shortened
