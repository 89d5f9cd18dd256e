-- Ids of jobs that are queued in the ordinary lane of a queue, in the order of their turns.
-- queue, priority and place behind which they stand, how many

local queue, limit = ARGV[1], tonumber(ARGV[4])
local priority, place = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}

-- Where in a list the first job stands that has a later place. The places in it only grow.
local function find(list, after)
  local low, high = 0, call('LLEN', list)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at, r = middle, nil
    while at < high and not r do -- an id may be left of a job that is gone
      r = read(load(call('LINDEX', list, at)))
      at = at + 1
    end
    if not r or r.place > after then
      high = middle
    else
      low = at
    end
  end
  return low
end

local function add(id, r, level)
  found[#found + 1] = id
  found[#found + 1] = level
  found[#found + 1] = r.place
end

local function is_queued(r)
  return r and r.status == QUEUED and r.queue == queue
end

for _, level in ipairs(call('ZRANGEBYSCORE', P .. 'levels:' .. queue, priority, '+inf')) do
  local key = queue .. ':' .. level
  local after = tonumber(level) == priority and place or NONE
  local back = call('ZRANGEBYSCORE', P .. 'back:' .. key, '(' .. after, '+inf', 'LIMIT', 0,
    limit)
  for _, id in ipairs(back) do
    local r = read(load(id))
    if is_queued(r) then
      add(id, r, level)
    end
  end
  local list = P .. 'ready:' .. key
  local at = find(list, after)
  while #found < 3 * limit do
    local ids = call('LRANGE', list, at, at + BOUND - 1)
    for _, id in ipairs(ids) do
      local r = #found < 3 * limit and read(load(id))
      if is_queued(r) then
        add(id, r, level)
      end
    end
    at = at + BOUND
    if #ids < BOUND then
      break
    end
  end
  if #found >= 3 * limit then
    break
  end
end
while #found > 3 * limit do
  found[#found] = nil
end
return found
