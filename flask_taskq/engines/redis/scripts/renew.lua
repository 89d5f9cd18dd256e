-- Extend leases, or begin them.
-- Arguments: length of the lease in milliseconds, its end, whether the lease begins; each
-- worker.
-- Returns the value of this renewal, which is unique, and the workers that are not registered.

begin()
local word = string.format('%.0f', call('INCR', P .. 'seq')) .. ':' .. ARGV[1] .. ':' .. ARGV[2]
local reply = { word }
for i = 4, #ARGV do
  if ARGV[3] == '1' or call('HEXISTS', P .. 'leases', ARGV[i]) == 1 then
    call('HSET', P .. 'leases', ARGV[i], word)
  else
    reply[#reply + 1] = ARGV[i]
  end
end
return reply
