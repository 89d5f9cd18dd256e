-- Store jobs whose ids are new.
-- id and record of each

local number = call('INCRBY', P .. 'seq', #ARGV / 2) - #ARGV / 2
for i = 1, #ARGV, 2 do
  number = number + 1
  insert(ARGV[i], ARGV[i + 1], number)
end
flush()
