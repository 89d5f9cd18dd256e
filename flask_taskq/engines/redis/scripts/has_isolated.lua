-- Whether a job of these queues is due that must run alone.
-- now, each queue

local wanted = {}
for i = 2, #ARGV do
  wanted[ARGV[i]] = true
  if call('EXISTS', P .. 'alone:' .. ARGV[i]) == 1 then
    return 1
  end
end
for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'due:alone', '-inf', ARGV[1], 'LIMIT', 0, BOUND)) do
  local r = read(load(string.sub(name, 13)))
  if r and wanted[r.queue] then
    return 1
  end
end
return 0
