-- Prolong leases, or begin them; the workers that are not registered.
-- until, whether it begins, each worker

begin()
local unknown = {}
for i = 3, #ARGV do
  if ARGV[2] == '1' or call('ZSCORE', P .. 'wk', ARGV[i]) then
    call('ZADD', P .. 'wk', ARGV[1], ARGV[i])
  else
    unknown[#unknown + 1] = ARGV[i]
  end
end
return unknown
