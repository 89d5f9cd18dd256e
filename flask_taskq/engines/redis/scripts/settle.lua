-- Settle what is still held under its token, and claim more.
-- as fetch.lua, but for the queues; how many queues, each of them; each settlement, and behind
-- it the lines of its log and its follow-ups (id, record)

local now = tonumber(ARGV[1])
local to = { now = now, worker = ARGV[2], overdue = ARGV[3], alone = ARGV[5] == '1',
  channel = ARGV[6], number = ARGV[7], queues = {} }
local next_argument = 10 + tonumber(ARGV[9])
for i = 10, next_argument - 1 do
  to.queues[#to.queues + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, tonumber(ARGV[8]))
local settled, outcomes, ready = {}, {}, {}

while next_argument <= #ARGV do
  local blob = ARGV[next_argument]
  local claim, told, follows, i, w, g, from = struct.unpack('<I4I4I4I2I2I4', blob)
  local id = string.sub(blob, from, from + i - 1)
  local worker = string.sub(blob, from + i, from + i + w - 1)
  local progress = string.sub(blob, from + i + w, from + i + w + g - 1)
  local token = id .. ':' .. claim
  local r = held(worker, id, claim)
  local is_stopped = true
  if r then
    call('HDEL', P .. 'own:' .. worker, id)
    if told + g > 0 then
      local lines = { unpack(ARGV, next_argument + 1, next_argument + told) }
      tell(id, r, progress, lines, now)
    end
    local v = unpack_change(blob, from + i + w + g)
    local _
    _, is_stopped = change(id, r, v, now)
    settled[#settled + 1] = token .. '=' .. r.status
    outcomes[#outcomes + 1] = r.status
  elseif memory.settled[token] then
    outcomes[#outcomes + 1] = memory.settled[token]
    memory.settled[token] = nil -- of two in this call, the second is stale
  else
    outcomes[#outcomes + 1] = 0
  end
  next_argument = next_argument + 1 + told
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
