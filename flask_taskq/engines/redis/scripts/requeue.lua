-- Queue a job again that is over, if no other job holds its unique key.
-- Arguments: now, id, the codes of the statuses that the job may have, with two digits each;
-- the change.
-- Returns the record afterwards.

local now, id = tonumber(ARGV[1]), ARGV[2]
local raw = load(id)
local r = read(raw)
local holder = r and r.key ~= '' and holder_of(r.key)
if not r or not string.find(ARGV[3], string.format('%02d', r.status), 1, true) or holder then
  return raw
end
strike(id, r.status)
if r.key ~= '' then
  call('HSET', P .. 'unique', r.key, id)
end
if has(r.flags, LOGS) then
  call('PERSIST', P .. 'log:' .. id)
end
raw = change(id, r, unpack_change(ARGV[4], 1), now)
flush()
return raw
