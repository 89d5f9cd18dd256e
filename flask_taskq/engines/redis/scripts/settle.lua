-- Settle what is still held under its token, and claim more.
-- as fetch.lua, but for the queues; result_ttl, failed_ttl, how many queues, each of them;
-- each settlement, and behind it the lines of its log and its follow-ups (id, record)

local DONE, FAIL, GIVE_UP, EXPIRE, RETRY, GIVE_BACK, PUT_OFF, SNOOZE = 1, 2, 3, 4, 5, 6, 7, 8

local now = tonumber(ARGV[1])
local result_ttl, failed_ttl = tonumber(ARGV[9]), tonumber(ARGV[10])
local to = { worker = ARGV[2], overdue = ARGV[3], alone = ARGV[5] == '1', channel = ARGV[6],
  number = ARGV[7], queues = {} }
local next_argument = 12 + tonumber(ARGV[11])
for i = 12, next_argument - 1 do
  to.queues[#to.queues + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, tonumber(ARGV[8]))
local settled, stale = {}, {}

local ENDS = { [DONE] = SUCCEEDED, [FAIL] = FAILED, [GIVE_UP] = CANCELLED, [EXPIRE] = EXPIRED }

-- Whether it would run again and was cancelled instead.
local function settle(id, r, kind, started, at, reason, result, error, attempts)
  local charged = kind ~= EXPIRE and kind < GIVE_BACK
  if charged then
    if started ~= NONE then
      r.started = started
    end
    r.error = error
    if kind ~= DONE then
      r.attempts = attempts
    end
  else
    r.attempt = r.attempt - 1
  end
  local status = ENDS[kind]
  if status then
    r.error = error
    r.result = result
    finish(id, r, status, now, result_ttl, failed_ttl)
    return false
  end
  if has(r.flags, CANCEL) then
    finish(id, r, CANCELLED, now, result_ttl, failed_ttl)
    return true
  end
  r.worker, r.updated, r.version, r.reason = '', now, r.version + 1, reason
  if kind == PUT_OFF then
    r.released = r.released == NONE and now or r.released
    r.releases = r.releases + 1
  elseif kind ~= GIVE_BACK then
    r.released, r.releases = NONE, 0
  end
  count(r.queue, 1)
  if kind == GIVE_BACK then
    r.status = QUEUED
    line_up_again(id, r)
  else
    r.status, r.due = SCHEDULED, at
    schedule(id, r)
  end
  save(id, r)
  return false
end

local index = 0
while next_argument <= #ARGV do
  local blob = ARGV[next_argument]
  local kind, claim, started, at, told, follows, i, w, s, x, e, t, g, from =
    struct.unpack('<BI4ddI4I4I2I2I2I4I4I4I4', blob)
  local function take(length)
    from = from + length
    return string.sub(blob, from - length, from - 1)
  end
  local id, worker, reason, result, error, attempts, progress =
    take(i), take(w), take(s), take(x), take(e), take(t), take(g)
  local token = id .. ':' .. claim
  local r = held(worker, id, claim)
  local stopped = true
  if r then
    call('HDEL', P .. 'own:' .. worker, id)
    settled[#settled + 1] = token
    if told + #progress > 0 then
      local lines = { unpack(ARGV, next_argument + 1, next_argument + told) }
      tell(id, r, progress, lines, now)
    end
    stopped = settle(id, r, kind, started, at, reason, result, error, attempts)
  elseif memory.settled[token] then
    memory.settled[token] = nil -- of two in this call, the second is stale
  else
    stale[#stale + 1] = index
  end
  next_argument = next_argument + 1 + told
  if not stopped then
    for n = next_argument, next_argument + 2 * follows - 2, 2 do
      insert(ARGV[n], ARGV[n + 1], call('INCR', P .. 'seq'))
    end
  end
  next_argument = next_argument + 2 * follows
  index = index + 1
end
push_queued()
return fetch(to, tonumber(ARGV[4]), now, memory, settled, stale)
