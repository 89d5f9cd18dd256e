-- The record of a job that looked queued; and if a worker holds it, that and the token.
-- id

local raw = load(ARGV[1])
local r = read(raw)
if r and r.status == QUEUED then
  local worker, _, token = find_holder(ARGV[1])
  if worker then
    return { raw, worker, token }
  end
end
return { raw }
