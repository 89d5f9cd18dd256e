-- Store jobs whose ids are new, and whose unique keys no job holds.
-- id and record of each
-- Returns nothing if all are stored; else of each that is not its position, and as insert()
-- says what is there.

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
