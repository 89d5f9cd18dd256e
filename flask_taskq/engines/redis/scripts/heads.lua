-- Ids of jobs that are queued in the ordinary lane of a queue, in the order of their turns.
-- queue, priority and place behind which they stand, how many

local queue, limit = ARGV[1], tonumber(ARGV[4])
local priority, place = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}

-- Place and status of a job; nothing of what is no record. Whoever gets the ids reads the rest.
local function look_at(id)
  local head = redis.pcall('GETRANGE', P .. 'j:' .. id, 0, STATUS_AT - 1)
  if type(head) == 'string' and #head == STATUS_AT then
    local _, place, format, status = struct.unpack('<ddBB', head)
    if format == FORMAT and place == place then
      return place, status
    end
  end
end

-- Where in a list the first job stands that has a later place. The places in it only grow.
local function find(list, after)
  local low, high = 0, call('LLEN', list)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at, at_place = middle, nil
    while at < high and not at_place do -- an id may be left of a job that is gone
      at_place = look_at(call('LINDEX', list, at))
      at = at + 1
    end
    if not at_place or at_place > after then
      high = middle
    else
      low = at
    end
  end
  return low
end

local function add(id, level)
  local place, status = look_at(id)
  if status == QUEUED and #found < 3 * limit then
    found[#found + 1] = id
    found[#found + 1] = level
    found[#found + 1] = place
  end
end

for _, level in ipairs(call('ZRANGEBYSCORE', P .. 'levels:' .. queue, priority, '+inf')) do
  local key = queue .. ':' .. level
  local after = tonumber(level) == priority and place or NONE
  local back = call('ZRANGEBYSCORE', P .. 'back:' .. key, '(' .. after, '+inf', 'LIMIT', 0,
    limit)
  for _, id in ipairs(back) do
    add(id, level)
  end
  local list = P .. 'ready:' .. key
  local at = find(list, after)
  while #found < 3 * limit do
    local ids = call('LRANGE', list, at, at + BOUND - 1)
    for _, id in ipairs(ids) do
      add(id, level)
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
return found
