-- Claim jobs.
-- Arguments: now, worker, the value of its last renewal if its lease has expired, limit,
-- whether to claim jobs that run alone, channel, number of the call, number of the last call
-- that was answered; each queue.

local to = { now = tonumber(ARGV[1]), worker = ARGV[2], overdue = ARGV[3],
  alone = ARGV[5] == '1', channel = ARGV[6], number = ARGV[7], seen = tonumber(ARGV[8]), queues = {} }
for i = 9, #ARGV do
  to.queues[#to.queues + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, to.seen)
return fetch(to, tonumber(ARGV[4]), memory, {}, {}, {})
