-- Store jobs whose ids are new and whose unique keys are free.
-- Arguments: id and record of each job.
-- Returns nothing if all jobs are stored. Otherwise returns, for each job that is not, its
-- position and the result of insert().

local number = call('INCRBY', P .. 'seq', #ARGV / 2) - #ARGV / 2
local known = {}
for i = 1, #ARGV, 2 do
  number = number + 1
  local other = insert(ARGV[i], ARGV[i + 1], number)
  if other then
    known[#known + 1] = { (i - 1) / 2, unpack(other) }
  end
end
flush()
return #known > 0 and known
