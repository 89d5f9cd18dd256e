-- Remove records whose retention time is over; how many.
-- now

local now = tonumber(ARGV[1])
begin()
local removed = 0
for _, class in ipairs({ 'result', 'failed' }) do
  local list = P .. 'over:' .. class
  local ids = removed < BOUND and call('LRANGE', list, 0, BOUND - removed - 1) or {}
  local passed = 0
  for _, id in ipairs(ids) do
    local r = read(load(id))
    if r then
      if r.expires == NONE then
        removed = removed - 1 -- not this job any more
      elseif r.expires > now then
        break
      else
        remove(id, r)
      end
    end
    removed, passed = removed + 1, passed + 1
  end
  if passed > 0 then
    call('LTRIM', list, passed, -1)
  end
end
return removed
