-- Remove records whose retention time is over; how many.
-- now

local now = tonumber(ARGV[1])
begin()
local removed = 0
for _, name in pairs(NAMES) do
  local key = P .. 'over:' .. name
  local ids = removed < BOUND and call('ZRANGE', key, 0, BOUND - removed - 1) or {}
  local gone = {}
  for _, id in ipairs(ids) do
    local r = read(load(id))
    if r and r.expires > now then
      break
    end
    if r then
      remove(id, r)
    else
      gone[#gone + 1] = id -- the server has removed it
    end
    removed = removed + 1
  end
  if #gone > 0 then
    call('ZREM', key, unpack(gone))
  end
end
return removed
