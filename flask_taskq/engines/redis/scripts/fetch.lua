-- Claim jobs.
-- now, worker, limit, whether alone, channel, number of the call, the last that was
-- answered; each queue

local to = { worker = ARGV[2], alone = ARGV[4] == '1', channel = ARGV[5], number = ARGV[6],
  queues = {} }
for i = 8, #ARGV do
  to.queues[#to.queues + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, tonumber(ARGV[7]))
return fetch(to, tonumber(ARGV[3]), tonumber(ARGV[1]), memory, {}, {})
