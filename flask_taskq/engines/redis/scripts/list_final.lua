-- Records of jobs that have ended, the first of each class.
-- how many, and of how many bytes of messages and results, with the one that exceeds them
-- Returns id, record, and the lines of its log, of each.

local limit, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local found, seen, total = {}, {}, 0

local function add(id)
  local raw = not seen[id] and load(id)
  seen[id] = true
  local r = read(raw)
  if r and r.status >= SUCCEEDED then
    local lines = has(r.flags, LOGS) and redis.pcall('LRANGE', P .. 'log:' .. id, 0, -1) or {}
    found[#found + 1] = { id, raw, lines.err and {} or lines }
    total = total + #r.message + #r.result
  end
end

-- In turns, so that many of one class do not keep those of the other waiting.
local results = call('LRANGE', P .. 'over:result', 0, limit - 1)
local failures = call('LRANGE', P .. 'over:failed', 0, limit - 1)
for i = 1, limit do
  for _, id in ipairs({ failures[i] or '', results[i] or '' }) do
    if id ~= '' and #found < limit and total < size then
      add(id)
    end
  end
end
return found
