-- What the scripts share. It stands before each of them.
--
-- KEYS[1] is the beginning of every key, with the namespace as its hash tag, so that all
-- keys of a namespace are in one slot of a cluster. Times are milliseconds since the epoch
-- by the server's clock, and come in as arguments. Messages, results and errors are bytes
-- that are moved and never read.
--
--   j:<id>             a record, laid out as layout.py says
--   log:<id>           the last lines of a job's own log
--   seq                the last number that was given out
--   ready:<q>:<p>      list of the queued ids of a queue and a priority, in order
--   back:<q>:<p>       ids that were given back, by place: all of them go before that list
--   levels:<q>         the priorities of a queue that have either
--   alone:<q>          queued ids that must run alone, by priority and place
--   due, due:alone     scheduled ids by time; a member is the job's number and its id
--   waiting            queue -> how many jobs are queued or scheduled
--   wake:<q>, wake:alone:<q>   one token at most, for who waits for jobs
--   leases             worker -> the word of its last renewal: number:length:end of the lease
--   holders            worker -> its host, a new line, and the processes that keep its lease
--   own:<worker>       what a worker holds: id -> claim
--   call:<worker>      channel -> the last call, for the case that its reply is lost
--   lost               names of what was taken from workers that are gone, by time
--   lost:<name>        id -> claim, as in own:<worker>
--   over:<class>       final ids, in the order in which they expire

local P = KEYS[1]
local call = redis.call
local HEAD = '<ddBdI2BbI4i4I2I2I4I4I4ddddddI2I2I2I4I4I4I4I4'
local SENT = '<BdI2Bb' -- what of it is needed to queue a new job, after the two numbers
local TAIL = struct.size(HEAD) + 1
local SCHEDULED, QUEUED, RUNNING = 1, 2, 4
local SUCCEEDED, FAILED, CANCELLED, EXPIRED = 5, 6, 7, 8
local CANCEL, ALONE, LOGS = 1, 2, 4 -- flags
local LINES = 100 -- of a log that are kept
local NONE = -1
local LEVEL = 281474976710656 -- 2^48: of a score the priority is above, the place below
local SLACK = 60000 -- by what a key outlives its record, whose own time decides
local CHUNK = 1000 -- arguments of one command: Lua's stack has its limits
local END_OF_TIME = 253402300799999 -- the end of the year 9999: no time is later
local BOUND = 500 -- jobs that one call looks after at most, besides what it was asked for

-- A server whose memory is full refuses to run a command that may take some, unless its
-- script has written before. What ends jobs, and so frees memory in the end, must run: all
-- scripts that write begin with this, but the one that stores new jobs.
local function begin()
  call('DEL', P .. 'nothing')
end

-- Records

-- The fields of a record. Nothing of bytes that cannot be one: an error in the midst of a
-- script would leave undone what comes after it, for all jobs of the call.
local function read(raw)
  if not raw or #raw < TAIL - 1 then
    return nil
  end
  local r = {}
  local q, a, w, s, m, x, e, t, g, at
  r.seq, r.place, r.status, r.due, q, r.flags, r.priority, r.attempt, r.max_attempts,
    r.crashes, r.suspects, r.claim, r.releases, r.version, r.created, r.updated, r.started,
    r.finished, r.expires, r.released, a, w, s, m, x, e, t, g, at = struct.unpack(HEAD, raw)
  if at + q + a + w + s + m + x + e + t + g ~= #raw + 1 or r.status < SCHEDULED
    or r.status > EXPIRED or r.place ~= r.place or r.due ~= r.due then
    return nil
  end
  local function take(length)
    at = at + length
    return string.sub(raw, at - length, at - 1)
  end
  r.queue, r.actor, r.worker, r.reason = take(q), take(a), take(w), take(s)
  r.message, r.result, r.error = take(m), take(x), take(e)
  r.attempts, r.progress = take(t), take(g)
  return r
end

-- The bytes of a record; nothing where there is something else, which is an error.
local function load(id)
  local raw = redis.pcall('GET', P .. 'j:' .. id)
  return type(raw) == 'string' and raw
end

local function save(id, r, ttl)
  local raw = struct.pack(HEAD, r.seq, r.place, r.status, r.due, #r.queue, r.flags,
    r.priority, r.attempt, r.max_attempts, r.crashes, r.suspects, r.claim, r.releases,
    r.version, r.created, r.updated, r.started, r.finished, r.expires, r.released,
    #r.actor, #r.worker, #r.reason, #r.message, #r.result, #r.error, #r.attempts,
    #r.progress) .. r.queue .. r.actor .. r.worker .. r.reason .. r.message .. r.result
    .. r.error .. r.attempts .. r.progress
  if ttl then
    -- Each is small enough to be written with all its digits.
    call('SET', P .. 'j:' .. id, raw, 'PX', math.min(ttl, END_OF_TIME) + SLACK)
  else
    call('SET', P .. 'j:' .. id, raw)
  end
  return raw
end

local function has(flags, flag)
  return flags % (2 * flag) >= flag
end

-- What a script does to lists that are the same for many jobs is gathered here, and done
-- at once.

local counts, tokens, ended = {}, {}, {}
local queued = {} -- queue -> priority -> ids that go to the end of that list

local function count(queue, difference)
  counts[queue] = (counts[queue] or 0) + difference
end

local function wake(queue, alone)
  tokens[(alone and 'wake:alone:' or 'wake:') .. queue] = true
end

local function push(key, ids)
  for from = 1, #ids, CHUNK do
    call('RPUSH', P .. key, unpack(ids, from, math.min(from + CHUNK - 1, #ids)))
  end
end

local function push_queued()
  for queue, levels in pairs(queued) do
    for priority, ids in pairs(levels) do
      push('ready:' .. queue .. ':' .. priority, ids)
    end
  end
  queued = {}
end

local function flush()
  push_queued()
  for class, ids in pairs(ended) do
    push('over:' .. class, ids)
  end
  for queue, difference in pairs(counts) do
    if difference ~= 0 then
      if call('HINCRBY', P .. 'waiting', queue, difference) == 0 then
        call('HDEL', P .. 'waiting', queue)
      end
    end
  end
  for key in pairs(tokens) do
    if call('LLEN', P .. key) == 0 then
      call('RPUSH', P .. key, '1')
    end
  end
end

-- Places

local function note_level(queue, priority)
  call('ZADD', P .. 'levels:' .. queue, priority, priority)
  wake(queue, false)
end

local function member(r, id)
  return string.format('%012x', r.seq) .. id
end

local function due_key(flags)
  return P .. (has(flags, ALONE) and 'due:alone' or 'due')
end

local function schedule(id, r)
  local key, name = due_key(r.flags), member(r, id)
  call('ZADD', key, r.due, name)
  if call('ZRANGE', key, 0, 0)[1] == name then
    -- Whoever waits knows of a later one only.
    wake(r.queue, has(r.flags, ALONE))
  end
end

local function score(r)
  return (r.priority + 9) * LEVEL + r.place
end

local function append(queue, priority, id)
  local levels = queued[queue]
  if not levels then
    levels = {}
    queued[queue] = levels
  end
  local ids = levels[priority]
  if not ids then
    ids = {}
    levels[priority] = ids
    note_level(queue, priority)
  end
  ids[#ids + 1] = id
end

-- To the end of its queue. Its place is a new one.
local function line_up(id, r)
  if has(r.flags, ALONE) then
    call('ZADD', P .. 'alone:' .. r.queue, score(r), id)
    wake(r.queue, true)
  else
    append(r.queue, r.priority, id)
  end
end

-- To the place that it had. Jobs leave a list from its head, so that whatever comes back
-- to it has a lower place than all that is still in it.
local function line_up_again(id, r)
  if has(r.flags, ALONE) then
    line_up(id, r)
  else
    call('ZADD', P .. 'back:' .. r.queue .. ':' .. r.priority, r.place, id)
    note_level(r.queue, r.priority)
  end
end

-- Transitions

local function insert(id, sent, number)
  local record = struct.pack('<dd', number, number) .. sent
  if not call('SET', P .. 'j:' .. id, record, 'NX') then
    return
  end
  local status, due, length, flags, priority = struct.unpack(SENT, sent)
  local queue = string.sub(record, TAIL, TAIL + length - 1)
  count(queue, 1)
  if status == SCHEDULED then
    schedule(id, { seq = number, due = due, queue = queue, flags = flags })
  else
    append(queue, priority, id)
  end
end

local function finish(id, r, status, now, result_ttl, failed_ttl)
  local class = status == FAILED and 'failed' or 'result'
  local ttl = status == FAILED and failed_ttl or result_ttl
  if has(r.flags, ALONE) then
    r.flags = r.flags - ALONE
  end
  ttl = math.min(ttl, END_OF_TIME)
  r.status, r.finished, r.updated, r.expires = status, now, now, math.min(now + ttl, END_OF_TIME)
  r.due, r.reason, r.released, r.releases = NONE, '', NONE, 0
  r.version = r.version + 1
  if has(r.flags, LOGS) then
    call('PEXPIRE', P .. 'log:' .. id, ttl + SLACK)
  end
  local ids = ended[class] or {}
  ended[class] = ids
  ids[#ids + 1] = id
  return save(id, r, ttl)
end

local function remove(id, r)
  call('UNLINK', P .. 'j:' .. id)
  if has(r.flags, LOGS) then
    call('UNLINK', P .. 'log:' .. id)
  end
end

-- What a run says of itself.
local function tell(id, r, progress, lines, now)
  if #lines > 0 then
    for from = 1, #lines, CHUNK do
      local to = math.min(from + CHUNK - 1, #lines)
      -- Something else that is there takes no lines, and keeps nothing from being stored.
      redis.pcall('RPUSH', P .. 'log:' .. id, unpack(lines, from, to))
    end
    redis.pcall('LTRIM', P .. 'log:' .. id, -LINES, -1)
    if not has(r.flags, LOGS) then
      r.flags = r.flags + LOGS
    end
  end
  if progress ~= '' then
    r.progress = progress
  end
  r.updated, r.version = now, r.version + 1
end

-- The record of a job that a worker holds under this claim.
local function held(worker, id, claim)
  if tonumber(call('HGET', P .. 'own:' .. worker, id) or NONE) == claim then
    return read(load(id))
  end
end
