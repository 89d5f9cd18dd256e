-- Return whether a job of these queues may run now.
-- Arguments: now, whether to check jobs that run alone; each queue.

local alone = ARGV[2] == '1'
local wanted = {}
for i = 3, #ARGV do
  if call('SISMEMBER', P .. 'paused', ARGV[i]) == 0 then
    wanted[ARGV[i]] = true
    if call('EXISTS', P .. (alone and 'alone:' or 'levels:') .. ARGV[i]) == 1 then
      return 1
    end
  end
end
local due = due_key(alone and ALONE or 0)
for _, name in ipairs(call('ZRANGEBYSCORE', due, '-inf', ARGV[1], 'LIMIT', 0, BOUND)) do
  local r = read(load(string.sub(name, 13)))
  if r and wanted[r.queue] then
    return 1
  end
end
return 0
