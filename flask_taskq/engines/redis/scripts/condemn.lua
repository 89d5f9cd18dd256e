-- Forget workers, and put what they hold where nobody adds to it, to be taken from there.
-- now, a name that no call had before; of each: worker, the word of its last renewal, or
-- nothing if it is gone whatever that is
-- Returns those that were forgotten. What each held is in the hash lost:<name><worker>.

local now, name = ARGV[1], ARGV[2]
begin()
local condemned = {}
for i = 3, #ARGV, 2 do
  local worker, word = ARGV[i], ARGV[i + 1]
  local lost = name .. worker
  local known = call('HGET', P .. 'leases', worker)
  if known and (word == '' or word == known) then
    call('HDEL', P .. 'leases', worker)
    call('HDEL', P .. 'infos', worker)
    call('UNLINK', P .. 'call:' .. worker)
    if call('EXISTS', P .. 'own:' .. worker) == 1 then
      call('RENAME', P .. 'own:' .. worker, P .. 'lost:' .. lost)
      call('ZADD', P .. 'lost', now, lost)
    end
    condemned[#condemned + 1] = worker
  elseif call('EXISTS', P .. 'lost:' .. lost) == 1 then
    condemned[#condemned + 1] = worker -- the reply to the same call was lost
  end
end
return condemned
