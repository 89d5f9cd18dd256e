-- Return the record of a job that seemed to be queued. If a worker holds the job, also return
-- the worker and the token.
-- Arguments: id.

local raw = load(ARGV[1])
local r = read(raw)
if r and r.status == QUEUED then
  local worker, _, token = find_holder(ARGV[1])
  if worker then
    return { raw, worker, token }
  end
end
return { raw }
