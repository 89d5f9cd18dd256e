-- Remove a job, unless a worker holds it.
-- Arguments: id.
-- Returns the record as it was.

local id = ARGV[1]
begin()
local raw = load(id)
local r = read(raw)
if not r or r.status == RUNNING then
  return raw
end
if r.status == QUEUED and write_claim(id, r) then
  return load(id)
end
if r.status == QUEUED or r.status == SCHEDULED then
  take_out(id, r, true)
  count(r.status, r.queue, -1)
  forget_empty(r.queue)
else
  strike(id, r.status)
end
remove(id, r)
flush()
return raw
