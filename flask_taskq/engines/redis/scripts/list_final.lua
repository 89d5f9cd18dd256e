-- List jobs that are over, the newest first.
-- Arguments: limit; for each status, its name, and the position in its list before which to
-- begin, or nothing for the end of the list.
-- Returns, for each status, the position of the first of these ids, and then the ids.

local limit = tonumber(ARGV[1])
local found = {}
for i = 2, #ARGV, 2 do
  local list = P .. 'over:' .. ARGV[i]
  local passed = tonumber(call('HGET', P .. 'passed', ARGV[i]) or 0)
  local last = passed + call('LLEN', list) - 1
  if ARGV[i + 1] ~= '' then
    last = math.min(last, tonumber(ARGV[i + 1]) - 1)
  end
  local ids = {}
  local from = math.max(passed, last - limit + 1)
  if last >= passed then
    for place = 1, last - from + 1 do
      ids[place] = ''
    end
    local range = call('LRANGE', list, from - passed, last - passed)
    for place, id in ipairs(range) do
      ids[#range - place + 1] = id
    end
  end
  found[#found + 1] = { last, ids }
end
return found
