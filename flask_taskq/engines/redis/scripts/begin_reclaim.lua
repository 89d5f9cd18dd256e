-- Remove workers. Move their claims to a hash that gets no new claims, from which reclaim.lua
-- takes them.
-- Arguments: now, a name that no other call has; for each worker, its id and the value of its
-- last renewal, or nothing to remove the worker in any case.
-- Returns the removed workers. Their claims are in lost:<name><worker>.

local now, name = ARGV[1], ARGV[2]
begin()
local removed = {}
for i = 3, #ARGV, 2 do
  local worker, renewal = ARGV[i], ARGV[i + 1]
  local lost = name .. worker
  local known = call('HGET', P .. 'leases', worker)
  if known and (renewal == '' or renewal == known) then
    call('HDEL', P .. 'leases', worker)
    call('HDEL', P .. 'infos', worker)
    call('UNLINK', P .. 'call:' .. worker)
    if call('EXISTS', P .. 'own:' .. worker) == 1 then
      call('RENAME', P .. 'own:' .. worker, P .. 'lost:' .. lost)
      call('ZADD', P .. 'lost', now, lost)
    end
    removed[#removed + 1] = worker
  elseif call('EXISTS', P .. 'lost:' .. lost) == 1 then
    removed[#removed + 1] = worker -- the reply to the same call was lost
  end
end
return removed
