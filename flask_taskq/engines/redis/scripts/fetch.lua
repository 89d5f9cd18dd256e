-- Claim jobs.
-- now, worker, the word of its last renewal if its lease is over, limit, whether alone,
-- channel, number of the call, the last that was answered; each queue

local to = { now = tonumber(ARGV[1]), worker = ARGV[2], overdue = ARGV[3],
  alone = ARGV[5] == '1', channel = ARGV[6], number = ARGV[7], seen = tonumber(ARGV[8]), queues = {} }
for i = 9, #ARGV do
  to.queues[#to.queues + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, to.seen)
return fetch(to, tonumber(ARGV[4]), memory, {}, {}, {})
