-- Cancel a job that no worker holds, or ask for it; the record afterwards.
-- now, id, result_ttl

local now, id, ttl = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
begin()
local raw = load(id)
local r = read(raw)
if not r then
  return raw
end
if r.status == RUNNING then
  if not has(r.flags, CANCEL) then
    r.flags, r.updated, r.version = r.flags + CANCEL, now, r.version + 1
    raw = save(id, r)
  end
elseif r.status == QUEUED or r.status == SCHEDULED then
  if r.status == SCHEDULED then
    call('ZREM', due_key(r.flags), member(r, id))
  elseif has(r.flags, ALONE) then
    call('ZREM', P .. 'alone:' .. r.queue, id)
  else
    -- From within the list it is not removed, which would take the longer the longer that
    -- is: whoever comes upon the id there passes over it.
    call('ZREM', P .. 'back:' .. r.queue .. ':' .. r.priority, id)
  end
  local was_queued = r.status == QUEUED
  count(r.queue, -1)
  r.flags = r.flags + CANCEL
  raw = finish(id, r, CANCELLED, now, ttl, ttl)
  if was_queued then
    tidy(r.queue, r.priority)
    forget_empty(r.queue)
  end
end
flush()
return raw
