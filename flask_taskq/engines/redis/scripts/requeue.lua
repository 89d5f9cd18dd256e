-- Queue a job again that has ended, if no other job holds its unique key.
-- Returns the record afterwards.
-- now, id, for each status that it may have, with two digits: which that is; the change

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
