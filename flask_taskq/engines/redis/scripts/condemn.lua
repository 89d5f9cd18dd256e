-- Forget workers, and put what they hold where nobody adds to it, to be taken from there.
-- now, a name that no call had before, when to go on with what somebody else began; and
-- the worker, whatever its lease is. Without it: all whose lease is over.
-- Returns worker and name of each, and then an empty worker and the name of each that was
-- begun.

local now, name = ARGV[1], ARGV[2]
begin()
local condemned = {}
local workers
if ARGV[4] then
  workers = call('ZSCORE', P .. 'wk', ARGV[4]) and { ARGV[4] } or {}
  if call('EXISTS', P .. 'lost:' .. name .. ARGV[4]) == 1 then
    return { ARGV[4], name .. ARGV[4] } -- the reply to the same call was lost
  end
else
  workers = call('ZRANGEBYSCORE', P .. 'wk', '-inf', now, 'LIMIT', 0, BOUND)
end
for _, worker in ipairs(workers) do
  local lost = name .. worker
  call('ZREM', P .. 'wk', worker)
  call('HDEL', P .. 'holders', worker)
  call('DEL', P .. 'call:' .. worker)
  if call('EXISTS', P .. 'own:' .. worker) == 1 then
    call('RENAME', P .. 'own:' .. worker, P .. 'lost:' .. lost)
    call('ZADD', P .. 'lost', now, lost)
  end
  condemned[#condemned + 1] = worker
  condemned[#condemned + 1] = lost
end
if not ARGV[4] then
  for _, lost in ipairs(call('ZRANGEBYSCORE', P .. 'lost', '-inf', ARGV[3])) do
    condemned[#condemned + 1] = ''
    condemned[#condemned + 1] = lost
  end
end
return condemned
