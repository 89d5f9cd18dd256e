-- Change jobs whose holder is gone; the ids of those that failed.
-- now, name of what was lost; of each the id, and the claim with its change

local now, name = tonumber(ARGV[1]), ARGV[2]
local lost = P .. 'lost:' .. name
local failed = {}

begin()
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local claim, from = struct.unpack('<I4', ARGV[i + 1])
  if tonumber(call('HGET', lost, id) or NONE) == claim then
    call('HDEL', lost, id)
    local r = read(load(id))
    if r then
      change(id, r, unpack_change(ARGV[i + 1], from), now)
      if r.status == FAILED then
        failed[#failed + 1] = id
      end
    end
  end
end
if call('EXISTS', lost) == 0 then
  call('ZREM', P .. 'lost', name)
end
flush()
return failed
