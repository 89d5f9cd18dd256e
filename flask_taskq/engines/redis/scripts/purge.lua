-- Remove some of the queued jobs of a queue.
-- Arguments: queue, the last number to remove.
-- Returns how many jobs were removed, and how many entries were. No entry is left if the latter
-- is 0.

local queue, newest = ARGV[1], tonumber(ARGV[2])
local removed, left = 0, 0

-- Return whether an entry may be removed from its list, and remove its job.
local function may_leave(entry)
  local r = is_queued(entry)
  if not r then
    return true
  end
  if r.place > newest then
    return false
  end
  remove(id_of(entry), r)
  removed = removed + 1
  return true
end

local function purge_members(key)
  local members = call('ZRANGE', key, 0, BOUND - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    if may_leave(entry_of(tonumber(members[i + 1]) % LEVEL, members[i])) then
      left = left + call('ZREM', key, members[i])
    end
  end
end

begin()
purge_members(P .. 'alone:' .. queue)
for _, level in ipairs(call('ZRANGE', P .. 'levels:' .. queue, 0, -1)) do
  local key = queue .. ':' .. level
  purge_members(P .. 'back:' .. key)
  local passed = 0
  for _, entry in ipairs(call('LRANGE', P .. 'ready:' .. key, 0, BOUND - 1)) do
    if not may_leave(entry) then
      break
    end
    passed = passed + 1
  end
  left = left + passed
  if passed > 0 then
    call('LTRIM', P .. 'ready:' .. key, passed, -1)
  end
end
count(QUEUED, queue, -removed)
forget_empty(queue)
flush()
return { removed, left }
