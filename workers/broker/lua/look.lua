-- What a worker must know of the others at each look, however many there are.
--
-- KEYS    the registry of workers, the leases of all workers, the counter of changes at this place
-- ARGV    1 how many expired leases at most; the last that expired come first, since leases that
--         expired long ago may be nobody's
-- returns the counter, how many are registered, then for each worker whose lease is over and that is
--         registered: its name, and what the registry says of it
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local found = {redis.call('GET', KEYS[3]) or '', redis.call('HLEN', KEYS[1])}
if ARGV[1] ~= '0' then
  local over = redis.call('ZREVRANGEBYSCORE', KEYS[2], string.format('(%.6f', now), '-inf',
    'LIMIT', 0, ARGV[1])
  for _, worker in ipairs(over) do
    local entry = redis.call('HGET', KEYS[1], worker)
    if entry then
      found[#found + 1] = worker
      found[#found + 1] = entry
    end
  end
end
return found
