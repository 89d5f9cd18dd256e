-- Note what a worker that is registered says of itself.
-- worker; its host, a new line, and all that it says

begin()
if call('HEXISTS', P .. 'leases', ARGV[1]) == 1 then
  call('HSET', P .. 'infos', ARGV[1], ARGV[2])
end
