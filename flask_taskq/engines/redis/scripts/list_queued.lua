-- List queued jobs of the ordinary lane of a queue, in queue order.
-- Arguments: queue, priority and place after which to begin, limit.
-- Returns id, priority and place of each job.

local queue, limit = ARGV[1], tonumber(ARGV[4])
local priority, place = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}

local function place_of(entry)
  return (struct.unpack('<d', entry))
end

-- Return whether an entry of a list is still valid. The caller reads the records.
local function counts(entry)
  local head = redis.pcall('GETRANGE', P .. 'j:' .. id_of(entry), 0, STATUS_AT - 1)
  return type(head) == 'string' and #head == STATUS_AT
    and string.byte(head, STATUS_AT - 1) == FORMAT and string.byte(head, STATUS_AT) == QUEUED
    and string.sub(head, PLACE_AT, PLACE_AT + 7) == string.sub(entry, 1, 8)
end

-- Return the position of the first job with a later place. The places in a list are increasing.
local function find(list, after)
  local low, high = 0, call('LLEN', list)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if place_of(call('LINDEX', list, middle)) > after then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local function add(entry, level)
  if #found < 3 * limit and counts(entry) then
    found[#found + 1] = id_of(entry)
    found[#found + 1] = level
    found[#found + 1] = place_of(entry)
  end
end

for _, level in ipairs(call('ZRANGEBYSCORE', P .. 'levels:' .. queue, priority, '+inf')) do
  local key = queue .. ':' .. level
  local after = tonumber(level) == priority and place or NONE
  local back = call('ZRANGEBYSCORE', P .. 'back:' .. key, '(' .. after, '+inf', 'WITHSCORES',
    'LIMIT', 0, limit)
  for i = 1, #back, 2 do
    add(entry_of(tonumber(back[i + 1]), back[i]), level)
  end
  local list = P .. 'ready:' .. key
  local at = find(list, after)
  while #found < 3 * limit do
    local entries = call('LRANGE', list, at, at + BOUND - 1)
    for _, entry in ipairs(entries) do
      add(entry, level)
    end
    at = at + BOUND
    if #entries < BOUND then
      break
    end
  end
  if #found >= 3 * limit then
    break
  end
end
return found
