-- Settle jobs that are still held under their token, and claim more.
-- Arguments: as for fetch.lua, without the queues; the number of queues, each queue; how long
-- the record of a succeeded job is kept, the change of such a job, the number of such jobs; for
-- each of them, its id, its token and its new record; for each other job, the encoded
-- settlement, followed by its log lines and its follow-ups (id and record).
--
-- The outcomes of the succeeded jobs come first, followed by those of the other jobs.

local now = tonumber(ARGV[1])
local to = { now = now, worker = ARGV[2], overdue = ARGV[3], alone = ARGV[5] == '1',
  channel = ARGV[6], number = ARGV[7], seen = tonumber(ARGV[8]), queues = {} }
local next_argument = 10 + tonumber(ARGV[9])
for i = 10, next_argument - 1 do
  to.queues[#to.queues + 1] = ARGV[i]
end
local ttl, success, succeeded = ARGV[next_argument], ARGV[next_argument + 1],
  tonumber(ARGV[next_argument + 2])
next_argument = next_argument + 3
begin()
local memory = recall(to.worker, to.channel, to.seen)
local settled, outcomes, ready = {}, {}, {}

-- Settle a succeeded job whose record cannot simply be replaced, because it was changed
-- meanwhile, or because the reply to the same call was lost.
local function succeed(id, token, final)
  local r = held(to.worker, id, token)
  local f = read(final)
  if r then
    local v = unpack_change(success, 1)
    v.started, v.result = f.started, f.result
    call('HDEL', P .. 'own:' .. to.worker, id)
    change(id, r, v, now)
    return r.status
  end
  local known = memory.is_lost and read(load(id))
  if known and known.status == SUCCEEDED and known.claim == f.claim
    and known.worker == to.worker then
    return SUCCEEDED
  end
  return 0
end

if succeeded > 0 then
  local ids, gone, seen = {}, {}, {}
  for k = 1, succeeded do
    ids[k] = ARGV[next_argument + 3 * (k - 1)]
  end
  local tokens = call('HMGET', P .. 'own:' .. to.worker, unpack(ids))
  local over = ended.succeeded or {}
  for k, id in ipairs(ids) do
    local token, final = ARGV[next_argument + 1], ARGV[next_argument + 2]
    if seen[id] then
      outcomes[k] = 0
    elseif tokens[k] == token then
      call('SET', P .. 'j:' .. id, final, 'PX', ttl)
      gone[#gone + 1] = id
      over[#over + 1] = id
      outcomes[k] = SUCCEEDED
    else
      outcomes[k] = succeed(id, token, final)
    end
    seen[id] = true
    next_argument = next_argument + 3
  end
  if #gone > 0 then
    call('HDEL', P .. 'own:' .. to.worker, unpack(gone))
    ended.succeeded = ended.succeeded or over
  end
end

while next_argument <= #ARGV do
  local blob = ARGV[next_argument]
  local line_count, follows, n, i, w, g, from = struct.unpack('<I4I4I2I2I2I4', blob)
  local token = string.sub(blob, from, from + n - 1)
  from = from + n
  local id = string.sub(blob, from, from + i - 1)
  local worker = string.sub(blob, from + i, from + i + w - 1)
  local progress = string.sub(blob, from + i + w, from + i + w + g - 1)
  local name = id .. ':' .. token
  local r = held(worker, id, token)
  local is_stopped = true
  if r then
    call('HDEL', P .. 'own:' .. worker, id)
    if line_count + g > 0 then
      local lines = { unpack(ARGV, next_argument + 1, next_argument + line_count) }
      store_report(id, r, progress, lines, now)
    end
    local v = unpack_change(blob, from + i + w + g)
    local _
    _, is_stopped = change(id, r, v, now)
    settled[#settled + 1] = name .. '=' .. r.status
    outcomes[#outcomes + 1] = r.status
  elseif memory.settled[name] then
    outcomes[#outcomes + 1] = tonumber(memory.settled[name])
    memory.settled[name] = nil -- of two settlements in this call, the second is stale
  else
    outcomes[#outcomes + 1] = 0
  end
  next_argument = next_argument + 1 + line_count
  if not is_stopped then
    for n = next_argument, next_argument + 2 * follows - 2, 2 do
      local known = insert(ARGV[n], ARGV[n + 1], call('INCR', P .. 'seq'))
      if not known and string.byte(ARGV[n + 1], 2) == QUEUED then
        ready[#ready + 1] = ARGV[n]
      end
    end
  end
  next_argument = next_argument + 2 * follows
end
push_queued()
return fetch(to, tonumber(ARGV[4]), memory, settled, outcomes, ready)
