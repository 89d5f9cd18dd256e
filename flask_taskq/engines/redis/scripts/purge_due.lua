-- Remove some of the scheduled jobs of a queue.
-- Arguments: queue, the last number to remove, key, cursor.
-- Returns how many were removed, and the cursor for the next call, which is "0" at the end.

local queue, newest, key = ARGV[1], tonumber(ARGV[2]), P .. ARGV[3]
begin()
local removed = 0
local scanned = call('ZSCAN', key, ARGV[4], 'COUNT', BOUND)
for i = 1, #scanned[2], 2 do
  local name = scanned[2][i]
  local id = string.sub(name, 13)
  local number = tonumber(string.sub(name, 1, 12), 16) or 0
  local r = number <= newest and read(load(id))
  if r and r.queue == queue then
    call('ZREM', key, name)
    remove(id, r)
    removed = removed + 1
  end
end
count(SCHEDULED, queue, -removed)
flush()
return { removed, scanned[1] }
