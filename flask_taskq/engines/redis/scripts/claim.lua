-- Claim jobs by their ids, regardless of their queue and lane.
-- Arguments: as for fetch.lua, with ids instead of queues.

local to = { now = tonumber(ARGV[1]), worker = ARGV[2], overdue = ARGV[3],
  alone = ARGV[5] == '1', channel = ARGV[6], number = ARGV[7], seen = tonumber(ARGV[8]), ids = {} }
for i = 9, #ARGV do
  to.ids[#to.ids + 1] = ARGV[i]
end
begin()
local memory = recall(to.worker, to.channel, to.seen)
return fetch(to, tonumber(ARGV[4]), memory, {}, {}, {})
