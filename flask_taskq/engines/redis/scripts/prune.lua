-- Remove records whose retention time is over.
-- Arguments: now.
-- Returns how many were removed.

local now = tonumber(ARGV[1])
begin()
local removed = 0
for _, name in pairs(NAMES) do
  local list = P .. 'over:' .. name
  local passed = 0
  for _, id in ipairs(call('LRANGE', list, 0, BOUND - removed - 1)) do
    local r = id ~= '' and read(load(id))
    if r then
      if r.expires > now then
        break
      end
      remove(id, r)
    end
    passed = passed + 1
  end
  if passed > 0 then
    call('LTRIM', list, passed, -1)
    call('HINCRBY', P .. 'passed', name, passed)
    removed = removed + passed
    if removed >= BOUND then
      break
    end
  end
end
return removed
