-- Declarations that the scripts share. They are put before each script that uses them.
--
-- KEYS[1] is the prefix of every key. It has the namespace as its hash tag, so that all keys of
-- a namespace are in one slot of a cluster. Times are milliseconds since the epoch by the
-- server's clock, and are passed as arguments. Messages, results and errors are bytes that the
-- scripts copy and never read.
--
--   j:<id>             the record of a job, in the format of layout.py
--   log:<id>           list of the last lines of a job's log
--   seq                the last number that was assigned
--   ready:<q>:<p>      list of the queued jobs of a queue and a priority, in order. Each entry
--                      has the place and the id of a job. It is valid only as long as the
--                      record has the same place
--   back:<q>:<p>       sorted set of released ids by place. All of them come before that list
--   levels:<q>         sorted set of the priorities of a queue that have one of these two keys
--   alone:<q>          sorted set of queued ids that must run alone, by priority and place
--   due, due:alone     sorted sets of scheduled jobs by time. A member is the job's number and
--                      its id
--   queued, scheduled  hashes: queue -> how many jobs have this status
--   paused             set of the paused queues
--   unique             hash: unique key -> id of the job that holds it and is not over
--   wake:<q>, wake:alone:<q>   lists with at most one element, which wakes a waiting consumer
--   leases             hash: worker -> the value of its last renewal: number:length:end of the
--                      lease
--   infos              hash: worker -> its host, a line break, and its description
--   own:<worker>       hash of the jobs that a worker holds: id -> token. The token is the
--                      channel, the number and the time of the call that claimed the job. It
--                      is followed by ":w" if the claim is written to the record. Until then
--                      the record is that of a queued job, and only this hash shows that the
--                      job runs
--   call:<worker>      hash: channel -> the last call, in case its reply is lost
--   lost               sorted set of the names of unfinished reclaims, by time
--   lost:<name>        hash: id -> token, as in own:<worker>. The name is a random text, a
--                      colon, and the worker
--   over:<status>      list of ids of jobs that are over, in the order of their ends. An empty
--                      element replaces a job that does not have this status any more
--   passed             hash: status -> how many ids were removed from the head of that list
--   layout             the version of this layout, and the oldest version whose releases can
--                      use it

local P = KEYS[1]
local call = redis.call
local HEAD = '<ddBBdI2BbI4i4I2I2I4I4I4ddddddI2I2I2I2I4I4I4I4I4I4'
local FORMAT = 1 -- of a record; a newer release may use a higher number
local TAIL = struct.size(HEAD) + 1
-- A sender writes the record without the first two numbers. SENT is the part of that record
-- which is needed to queue the job, and LENGTHS_AT is the position of the lengths of its texts.
local SENT = '<BBdI2Bb'
local LENGTHS_AT = struct.size('<BBdI2BbI4i4I2I2I4I4I4dddddd') + 1
local SCHEDULED, QUEUED, RUNNING = 1, 2, 4
local NAMES = { [5] = 'succeeded', [6] = 'failed', [7] = 'cancelled', [8] = 'expired' }
local PLACE_AT, STATUS_AT = 9, 18 -- positions in a record
local SUCCEEDED, FAILED, CANCELLED, EXPIRED = 5, 6, 7, 8
local CANCEL, ALONE, LOGS = 1, 2, 4 -- flags
local WRITTEN = ':w' -- follows the token of a claim that is written to its record
local LINES = 100 -- the number of lines that a log keeps
local NONE = -1
local LEVEL = 281474976710656 -- 2^48: the factor of the priority in a score, see score()
local SLACK = 60000 -- how much longer than its record a key exists, in milliseconds
local CHUNK = 1000 -- the most arguments of one command, because Lua's stack is limited
local END_OF_TIME = 253402300799999 -- the end of the year 9999, the latest possible time
local BOUND = 500 -- the most jobs that one call handles besides the requested ones

-- A server whose memory is full refuses a command that may use more memory, unless the script
-- has written before. The scripts that end jobs must still run, because this finally frees
-- memory. All scripts that write therefore call this first, except the one that stores new
-- jobs.
local function begin()
  call('DEL', P .. 'nothing')
end

-- Records

-- Decode a record. The result is nil for bytes that are not a valid record. An error in the
-- middle of a script would prevent the remaining steps for all jobs of the call.
local function read(raw)
  if not raw or #raw < TAIL - 1 then
    return nil
  end
  local seq, place, format, status, due, q, flags, priority, attempt, max_attempts, crashes,
    suspects, claim, releases, version, created, updated, started, finished, expires, released,
    a, w, s, k, m, x, e, t, g, z, at = struct.unpack(HEAD, raw)
  if format ~= FORMAT or at + q + a + w + s + k + m + x + e + t + g + z ~= #raw + 1
    or status < SCHEDULED or status > EXPIRED or place ~= place or due ~= due then
    return nil
  end
  local sub = string.sub
  a = at + q + a -- each variable becomes the start of the next text
  w = a + w
  s = w + s
  k = s + k
  m = k + m
  x = m + x
  e = x + e
  t = e + t
  g = t + g
  q = at + q
  -- The table is created in one step, because a table that grows is reallocated repeatedly.
  return {
    seq = seq, place = place, status = status, due = due, flags = flags, priority = priority,
    attempt = attempt, max_attempts = max_attempts, crashes = crashes, suspects = suspects,
    claim = claim, releases = releases, version = version, created = created,
    updated = updated, started = started, finished = finished, expires = expires,
    released = released, queue = sub(raw, at, q - 1), actor = sub(raw, q, a - 1),
    worker = sub(raw, a, w - 1), reason = sub(raw, w, s - 1), key = sub(raw, s, k - 1),
    message = sub(raw, k, m - 1), result = sub(raw, m, x - 1), error = sub(raw, x, e - 1),
    attempts = sub(raw, e, t - 1), progress = sub(raw, t, g - 1), extra = sub(raw, g),
  }
end

-- Read the bytes of a record. The result is false if the key is missing or has another type.
local function load(id)
  local raw = redis.pcall('GET', P .. 'j:' .. id)
  return type(raw) == 'string' and raw
end

local function save(id, r, ttl)
  local raw = struct.pack(HEAD, r.seq, r.place, FORMAT, r.status, r.due, #r.queue, r.flags,
    r.priority, r.attempt, r.max_attempts, r.crashes, r.suspects, r.claim, r.releases,
    r.version, r.created, r.updated, r.started, r.finished, r.expires, r.released,
    #r.actor, #r.worker, #r.reason, #r.key, #r.message, #r.result, #r.error, #r.attempts,
    #r.progress, #r.extra) .. r.queue .. r.actor .. r.worker .. r.reason .. r.key .. r.message
    .. r.result .. r.error .. r.attempts .. r.progress .. r.extra
  if ttl then
    -- These numbers are small enough to be formatted without an exponent.
    call('SET', P .. 'j:' .. id, raw, 'PX', math.min(ttl, END_OF_TIME) + SLACK)
  else
    call('SET', P .. 'j:' .. id, raw)
  end
  return raw
end

-- Return whether these bytes are a record in the format of a newer release.
local function is_newer(raw)
  return raw and #raw >= STATUS_AT and string.byte(raw, STATUS_AT - 1) > FORMAT
end

local function has(flags, flag)
  return flags % (2 * flag) >= flag
end

-- Changes of keys that many jobs share are collected here. flush() applies them together.

local counts = { queued = {}, scheduled = {} } -- status -> queue -> change of the count
local tokens = {}
local ended = {} -- status -> ids of jobs that end
local queued = {} -- queue -> priority -> entries to add to the end of that list

local function count(status, queue, difference)
  local of = status == QUEUED and counts.queued or counts.scheduled
  of[queue] = (of[queue] or 0) + difference
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
  for name, ids in pairs(ended) do
    push('over:' .. name, ids)
  end
  for name, of in pairs(counts) do
    for queue, difference in pairs(of) do
      if difference ~= 0 and call('HINCRBY', P .. name, queue, difference) == 0 then
        call('HDEL', P .. name, queue)
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
    -- Waiting consumers only know the time of a later job.
    wake(r.queue, has(r.flags, ALONE))
  end
end

local function score(r)
  return (r.priority + 9) * LEVEL + r.place
end

-- Return the list entry of a job.
local function entry_of(place, id)
  return struct.pack('<d', place) .. id
end

local function id_of(entry)
  return string.sub(entry, 9)
end

local function append(queue, priority, place, id)
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
  ids[#ids + 1] = entry_of(place, id)
end

-- Add a job to the end of its queue. The caller has given it a new place.
local function line_up(id, r)
  if has(r.flags, ALONE) then
    call('ZADD', P .. 'alone:' .. r.queue, score(r), id)
    wake(r.queue, true)
  else
    append(r.queue, r.priority, r.place, id)
  end
end

-- Return a job to its old place in the queue. Jobs leave a list from its head, so the place of
-- a returning job is lower than all places that are still in the list.
local function line_up_again(id, r)
  if has(r.flags, ALONE) then
    line_up(id, r)
  else
    call('ZADD', P .. 'back:' .. r.queue .. ':' .. r.priority, r.place, id)
    note_level(r.queue, r.priority)
  end
end

-- Claims

-- Find the holder of a job whose record is that of a queued job. Returns the worker, the key
-- that has the claim, and the token.
local function find_holder(id)
  for _, worker in ipairs(call('HKEYS', P .. 'leases')) do
    local token = call('HGET', P .. 'own:' .. worker, id)
    if token then
      return worker, P .. 'own:' .. worker, token
    end
  end
  for _, name in ipairs(call('ZRANGE', P .. 'lost', 0, -1)) do
    local token = call('HGET', P .. 'lost:' .. name, id)
    if token then
      return string.match(name, ':(.*)$') or '', P .. 'lost:' .. name, token
    end
  end
end

-- Add a claim to the fields of a record, if the claim is not in it yet.
local function hold(r, worker, token)
  if r.status ~= QUEUED then
    return
  end
  r.status, r.due, r.attempt, r.claim, r.version = RUNNING, NONE, r.attempt + 1, r.claim + 1,
    r.version + 1
  r.updated = tonumber(string.match(token, '^[^:]*:[^:]*:(%d+)')) or r.updated
  r.started, r.worker, r.reason, r.progress = r.updated, worker, '', ''
end

-- Write the claim to a record that is still that of a queued job. Returns whether a worker
-- holds the job.
local function write_claim(id, r)
  local worker, key, token = find_holder(id)
  if worker then
    hold(r, worker, token)
    save(id, r)
    call('HSET', key, id, token .. WRITTEN)
  end
  return worker ~= nil
end

-- Return the record of a job that a worker holds under this token, and whether the claim is
-- written to the record.
local function held(worker, id, token)
  local known = call('HGET', P .. 'own:' .. worker, id)
  if known == token or known == token .. WRITTEN then
    local r = read(load(id))
    if r then
      hold(r, worker, token)
    else -- it is damaged, so that no settlement can end it
      call('HDEL', P .. 'own:' .. worker, id)
    end
    return r, known ~= token
  end
end

-- Return the job that holds a unique key and is not over, and its record. A record that was
-- removed holds no key.
local function holder_of(key)
  local holder = call('HGET', P .. 'unique', key)
  local r = holder and read(load(holder))
  return r and r.status <= RUNNING and r.key == key and holder, r
end

local function free_key(id, r)
  if r.key ~= '' and call('HGET', P .. 'unique', r.key) == id then
    call('HDEL', P .. 'unique', r.key)
  end
end

local function status_of(id, r)
  return r.status == QUEUED and find_holder(id) and RUNNING or r.status
end

-- Store a new job. Returns nothing if it was stored. Otherwise returns the id, the status and
-- the due time of the existing job, and the reason.
local function insert(id, sent, number)
  local record = struct.pack('<dd', number, number) .. sent
  local _, status, due, q, flags, priority = struct.unpack(SENT, sent)
  local a, w, s, k = struct.unpack('<I2I2I2I2', sent, LENGTHS_AT)
  local queue = string.sub(sent, TAIL - 16, TAIL - 17 + q)
  local key = ''
  if k > 0 then
    local at = TAIL - 16 + q + a + w + s
    key = string.sub(sent, at, at + k - 1)
  end
  if key ~= '' then
    local holder, other = holder_of(key)
    if holder and holder ~= id then
      return { holder, status_of(holder, other), other.due, 'unique' }
    end
  end
  if not call('SET', P .. 'j:' .. id, record, 'NX') then
    local known = read(load(id)) or { status = QUEUED, due = NONE }
    return { id, status_of(id, known), known.due, 'id' }
  end
  if key ~= '' then
    call('HSET', P .. 'unique', key, id)
  end
  count(status, queue, 1)
  if status == SCHEDULED then
    schedule(id, { seq = number, due = due, queue = queue, flags = flags })
  else
    append(queue, priority, number, id)
  end
end

local function remove(id, r)
  call('UNLINK', P .. 'j:' .. id)
  free_key(id, r)
  if has(r.flags, LOGS) then
    call('UNLINK', P .. 'log:' .. id)
  end
end

-- Remove a job from the list of jobs that are over. The positions of the other jobs do not
-- change.
local function strike(id, status)
  local key = P .. 'over:' .. NAMES[status]
  local at = call('LPOS', key, id, 'RANK', -1)
  if at then
    call('LSET', key, at, '')
  end
end

-- Add the progress and the log lines of a running job to its record and its log.
local function store_report(id, r, progress, lines, now)
  if #lines > 0 then
    for from = 1, #lines, CHUNK do
      local to = math.min(from + CHUNK - 1, #lines)
      -- If the key has another type, the lines are lost, but the outcome is still stored.
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
