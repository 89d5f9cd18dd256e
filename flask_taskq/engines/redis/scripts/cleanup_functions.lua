-- Cleanup of a queue's keys. This file is put after common.lua in the scripts that remove jobs
-- from a queue without running them.

-- Return the record of an entry, if the entry is still valid.
local function is_queued(entry)
  local r = read(load(id_of(entry)))
  return r and r.status == QUEUED and entry_of(r.place, '') == string.sub(entry, 1, 8) and r
end

-- Remove the entries of jobs that are not queued any more from both ends of a list. A cancelled
-- job leaves its entry behind, because no entry is removed from inside a list.
local function tidy(queue, level)
  local list = P .. 'ready:' .. queue .. ':' .. level
  local function count_stale(from, step)
    for passed = 0, BOUND - 1 do
      local entry = call('LINDEX', list, from + step * passed)
      if not entry or is_queued(entry) then
        return passed
      end
    end
    return BOUND
  end
  call('LTRIM', list, count_stale(0, 1), -1)
  call('LTRIM', list, 0, -1 - count_stale(-1, -1))
end

-- Remove the priorities of a queue that have no jobs. If a lane of the queue has no jobs, also
-- remove the pending wake-up for this lane.
local function forget_empty(queue)
  for _, level in ipairs(call('ZRANGE', P .. 'levels:' .. queue, 0, -1)) do
    local key = queue .. ':' .. level
    if call('EXISTS', P .. 'ready:' .. key, P .. 'back:' .. key) == 0 then
      call('ZREM', P .. 'levels:' .. queue, level)
    end
  end
  if call('EXISTS', P .. 'levels:' .. queue) == 0 then
    call('DEL', P .. 'wake:' .. queue)
  end
  if call('EXISTS', P .. 'alone:' .. queue) == 0 then
    call('DEL', P .. 'wake:alone:' .. queue)
  end
end

