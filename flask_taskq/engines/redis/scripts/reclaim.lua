-- Apply the changes of jobs whose worker has died.
-- Arguments: now, the name after lost:; for each job, its id, its token as it was read, and the
-- change.
-- Returns the ids of the jobs that failed.

local now, name = tonumber(ARGV[1]), ARGV[2]
local lost = P .. 'lost:' .. name
local failed = {}

begin()
for i = 3, #ARGV, 3 do
  local id, token = ARGV[i], ARGV[i + 1]
  local known = call('HGET', lost, id)
  -- A request to cancel the job may have written the claim since the token was read.
  if known == token or known == token .. WRITTEN then
    call('HDEL', lost, id)
    local r = read(load(id))
    if r then
      hold(r, string.match(name, ':(.*)$') or '', token)
      change(id, r, unpack_change(ARGV[i + 2], 1), now)
      if r.status == FAILED then
        failed[#failed + 1] = id
      end
    end
  end
end
if call('EXISTS', lost) == 0 then
  call('ZREM', P .. 'lost', name)
end
flush()
return failed
