-- Remove some of the jobs that are queued in a queue; how many, and how many ids have left
-- it: with 0 there are no more.
-- queue, the last number to remove

local queue, newest = ARGV[1], tonumber(ARGV[2])
local removed, left = 0, 0

-- Whether the id may leave the list.
local function may_leave(id)
  local r = read(load(id))
  if not r then
    return true
  end
  if r.status ~= QUEUED or r.queue ~= queue then
    return true
  end
  if r.place > newest then
    return false
  end
  remove(id, r)
  removed = removed + 1
  return true
end

local function purge_members(key)
  for _, id in ipairs(call('ZRANGE', key, 0, BOUND - 1)) do
    if may_leave(id) then
      left = left + call('ZREM', key, id)
    end
  end
end

begin()
purge_members(P .. 'alone:' .. queue)
for _, level in ipairs(call('ZRANGE', P .. 'levels:' .. queue, 0, -1)) do
  local key = queue .. ':' .. level
  purge_members(P .. 'back:' .. key)
  local passed = 0
  for _, id in ipairs(call('LRANGE', P .. 'ready:' .. key, 0, BOUND - 1)) do
    if not may_leave(id) then
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
