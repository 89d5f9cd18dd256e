-- Do with jobs whose holder is gone as was judged; the ids of those that failed.
-- now, name of what was lost, result_ttl, failed_ttl; id and verdict of each

local now, name = tonumber(ARGV[1]), ARGV[2]
local result_ttl, failed_ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local lost = P .. 'lost:' .. name
local failed = {}

local function take(id, r, status, due)
  r.attempt, r.worker = r.attempt - 1, ''
  if status == FAILED then
    finish(id, r, FAILED, now, result_ttl, failed_ttl)
    failed[#failed + 1] = id
  elseif has(r.flags, CANCEL) then
    finish(id, r, CANCELLED, now, result_ttl, failed_ttl)
  else
    r.status, r.due, r.reason = status, due, 'worker_lost'
    r.updated, r.version = now, r.version + 1
    count(r.queue, 1)
    if status == QUEUED then
      line_up_again(id, r)
    else
      if not has(r.flags, ALONE) then
        r.flags = r.flags + ALONE
      end
      schedule(id, r)
    end
    save(id, r)
  end
end

begin()
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local claim, status, crashes, suspects, due, length, from =
    struct.unpack('<I4BI2I2dI4', ARGV[i + 1])
  if tonumber(call('HGET', lost, id) or NONE) == claim then
    call('HDEL', lost, id)
    local r = read(load(id))
    if r then
      r.crashes, r.suspects = crashes, suspects
      if length > 0 then
        r.error = string.sub(ARGV[i + 1], from, from + length - 1)
      end
      take(id, r, status, due)
    end
  end
end
if call('EXISTS', lost) == 0 then
  call('ZREM', P .. 'lost', name)
end
flush()
return failed
