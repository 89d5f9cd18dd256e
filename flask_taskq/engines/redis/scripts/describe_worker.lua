-- Store the description of a registered worker.
-- Arguments: worker; its host, a line break, and its description.

begin()
if call('HEXISTS', P .. 'leases', ARGV[1]) == 1 then
  call('HSET', P .. 'infos', ARGV[1], ARGV[2])
end
