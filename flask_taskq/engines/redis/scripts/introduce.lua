-- Note which processes keep the lease of a worker that is registered.
-- worker, host and processes

begin()
if call('HEXISTS', P .. 'leases', ARGV[1]) == 1 then
  call('HSET', P .. 'holders', ARGV[1], ARGV[2])
end
