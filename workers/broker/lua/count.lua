-- Adds a process's figures to the figures that wait for the database. A packet whose answer was lost may be
-- sent again: it counts once.
--
-- KEYS    1 the figures, a hash of field to number, 2 the number of the last packet of this process, 3 the
--         totals, a hash like the first
-- ARGV    1 the packet's number, 2 seconds for which that is kept, 3 how many fields may wait, 4 how many
--         of the following pairs of field and number are added, 5 of how many after them the least number
--         is kept; the rest is added to the totals
-- returns 1 if they were added, 0 if they had been added before
local last = redis.call('GET', KEYS[2])
if last and tonumber(last) >= tonumber(ARGV[1]) then
  return 0
end
local first_of_minima = 6 + 2 * tonumber(ARGV[4])
local first_of_totals = first_of_minima + 2 * tonumber(ARGV[5])
if first_of_totals > 6 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return redis.error_reply('ERR ' .. KEYS[1] .. ' is full: no process has written it to the database for a while')
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
for i = 6, #ARGV, 2 do
  if i < first_of_minima then
    redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
  elseif i >= first_of_totals then
    redis.call('HINCRBYFLOAT', KEYS[3], ARGV[i], ARGV[i + 1])
  else
    local least = redis.call('HGET', KEYS[1], ARGV[i])
    if not least or tonumber(ARGV[i + 1]) < tonumber(least) then
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
end
return 1
