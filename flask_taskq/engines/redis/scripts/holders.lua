-- The registered workers of a host, each followed by the processes that keep its lease.
-- host, with what ends it

local found = {}
local all = call('HGETALL', P .. 'holders')
for i = 1, #all, 2 do
  if string.sub(all[i + 1], 1, #ARGV[1]) == ARGV[1] then
    found[#found + 1] = all[i]
    found[#found + 1] = string.sub(all[i + 1], #ARGV[1] + 1)
  end
end
return found
