-- Cancel a job. If a worker holds it, request its cancellation.
-- Arguments: now, id, the change to make if the job waits.
-- Returns the record afterwards.

local now, id = tonumber(ARGV[1]), ARGV[2]
begin()
local raw = load(id)
local r = read(raw)
if not r then
  return raw
end
if r.status == QUEUED then
  write_claim(id, r) -- if there is a claim, the job runs
end
if r.status == RUNNING then
  if not has(r.flags, CANCEL) then
    r.flags, r.updated, r.version = r.flags + CANCEL, now, r.version + 1
    raw = save(id, r)
  end
elseif r.status == QUEUED or r.status == SCHEDULED then
  local was_queued = r.status == QUEUED
  take_out(id, r, false)
  raw = change(id, r, unpack_change(ARGV[3], 1), now)
  if was_queued then
    tidy(r.queue, r.priority)
    forget_empty(r.queue)
  end
end
flush()
return raw
