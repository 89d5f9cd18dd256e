-- Remove records that another engine has adopted; how many.
-- now; of each: id, version

local now = tonumber(ARGV[1])
local removed = 0
begin()
for i = 2, #ARGV, 2 do
  local id, version = ARGV[i], tonumber(ARGV[i + 1])
  local r = read(load(id))
  if r and r.status >= SUCCEEDED and r.version == version then
    remove(id, r)
    if r.expires > now then
      call('SET', P .. 'j:' .. id, '', 'PX', math.min(r.expires - now, END_OF_TIME))
    end
    removed = removed + 1
  end
end
-- They stood at the head of their lists, where the next ones are looked for.
for _, class in ipairs({ 'result', 'failed' }) do
  local list = P .. 'over:' .. class
  local passed = 0
  for _, id in ipairs(call('LRANGE', list, 0, #ARGV + BOUND)) do
    if read(load(id)) then
      break
    end
    passed = passed + 1
  end
  if passed > 0 then
    call('LTRIM', list, passed, -1)
  end
end
return removed
