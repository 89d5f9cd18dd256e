-- The registered workers of a host, each followed by the processes that keep its lease.
-- host, with what ends it

local found = {}
local all = call('HGETALL', P .. 'holders')
for i = 1, #all, 2 do
  if string.sub(all[i + 1], 1, #ARGV[1]) == ARGV[1] then
    if call('HEXISTS', P .. 'leases', all[i]) == 1 then
      found[#found + 1] = all[i]
      found[#found + 1] = string.sub(all[i + 1], #ARGV[1] + 1)
    else
      -- A release that knows no holders has taken its jobs.
      call('HDEL', P .. 'holders', all[i])
    end
  end
end
return found
