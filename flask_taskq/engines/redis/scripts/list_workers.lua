-- Return the registered workers, each followed by its description.
-- Arguments: the host with the line break after it, or nothing for all hosts.

local found = {}
local all = call('HGETALL', P .. 'infos')
for i = 1, #all, 2 do
  if string.sub(all[i + 1], 1, #ARGV[1]) == ARGV[1] then
    if call('HEXISTS', P .. 'leases', all[i]) == 1 then
      found[#found + 1] = all[i]
      found[#found + 1] = string.match(all[i + 1], '\n(.*)$') or ''
    else
      call('HDEL', P .. 'infos', all[i])
    end
  end
end
return found
