-- Transitions. It stands behind common.lua in the scripts that make them.
--
-- What a transition does to a record comes from the sender, who has it from the table of
-- transitions: each row as packing.py writes it.

local ROW = '<BbI4d' -- status, what is added to the attempt, effects, how long it is kept
local SETS_DUE, RESETS_DUE, SETS_REASON, RESETS_REASON = 1, 2, 4, 8
local SETS_ERROR, RESETS_ERROR, SETS_ATTEMPTS, SETS_STARTED = 16, 32, 64, 128
local SETS_RESULT, SETS_COUNTERS, RESETS_WORKER, RESETS_RELEASES = 256, 512, 1024, 2048
local COUNTS_RELEASE, MOVES_ALONE, RESETS_LANE, TAKES_PLACE = 4096, 8192, 16384, 32768
local SETS_CANCEL, BEGINS_ANEW = 65536, 131072

-- What a change brings, and the row that holds in place of the first one if cancelling was
-- asked for; of none the status is 0.
local CHANGE = '<BbI4dBbI4dddI2I2I2I4I4I4'

local function unpack_change(blob, at)
  local v = { row = {}, otherwise = {} }
  local s, x, e, t
  v.row.status, v.row.attempt, v.row.effects, v.row.ttl,
    v.otherwise.status, v.otherwise.attempt, v.otherwise.effects, v.otherwise.ttl,
    v.due, v.started, v.crashes, v.suspects, s, x, e, t, at = struct.unpack(CHANGE, blob, at)
  local function take(length)
    at = at + length
    return string.sub(blob, at - length, at - 1)
  end
  v.reason, v.result, v.error, v.attempts = take(s), take(x), take(e), take(t)
  return v, at
end

local function set_fields(r, effects, v, now)
  if has(effects, SETS_DUE) then
    r.due = v.due
  elseif has(effects, RESETS_DUE) then
    r.due = NONE
  end
  if has(effects, SETS_REASON) then
    r.reason = v.reason
  elseif has(effects, RESETS_REASON) then
    r.reason = ''
  end
  if has(effects, SETS_ERROR) then
    r.error = v.error
  elseif has(effects, RESETS_ERROR) then
    r.error = ''
  end
  if has(effects, SETS_ATTEMPTS) then
    r.attempts = v.attempts
  end
  if has(effects, SETS_STARTED) and v.started ~= NONE then
    r.started = v.started
  end
  if has(effects, SETS_RESULT) then
    r.result = v.result
  end
  if has(effects, SETS_COUNTERS) then
    r.crashes, r.suspects = v.crashes, v.suspects
  end
  if has(effects, RESETS_WORKER) then
    r.worker = ''
  end
  if has(effects, COUNTS_RELEASE) then
    r.released = r.released == NONE and now or r.released
    r.releases = r.releases + 1
  elseif has(effects, RESETS_RELEASES) then
    r.released, r.releases = NONE, 0
  end
  if has(effects, MOVES_ALONE) then
    if not has(r.flags, ALONE) then
      r.flags = r.flags + ALONE
    end
  elseif has(effects, RESETS_LANE) and has(r.flags, ALONE) then
    r.flags = r.flags - ALONE
  end
  if has(effects, SETS_CANCEL) and not has(r.flags, CANCEL) then
    r.flags = r.flags + CANCEL
  end
  if has(effects, BEGINS_ANEW) then
    r.attempt, r.crashes, r.suspects = 0, 0, 0
    r.started, r.finished, r.expires, r.progress = NONE, NONE, NONE, ''
    if has(r.flags, CANCEL) then
      r.flags = r.flags - CANCEL
    end
  end
end

local function finish(id, r, ttl, now)
  ttl = math.min(ttl, END_OF_TIME)
  r.finished, r.expires = now, math.min(now + ttl, END_OF_TIME)
  free_key(id, r)
  if has(r.flags, LOGS) then
    call('PEXPIRE', P .. 'log:' .. id, ttl + SLACK)
  end
  local name = NAMES[r.status]
  local members = ended[name] or {}
  ended[name] = members
  members[#members + 1] = now
  members[#members + 1] = id
  return save(id, r, ttl)
end

-- Make the transition that a change asks for. Its record; and whether it was the other one.
local function change(id, r, v, now)
  local before, row = r.status, v.row
  local is_other = v.otherwise.status > 0 and has(r.flags, CANCEL)
  if is_other then
    row = v.otherwise
  end
  local effects = row.effects
  if before == QUEUED or before == SCHEDULED then
    count(before, r.queue, -1)
  end
  r.attempt = r.attempt + row.attempt
  set_fields(r, effects, v, now)
  r.status, r.updated, r.version = row.status, now, r.version + 1
  if NAMES[r.status] then
    return finish(id, r, row.ttl, now), is_other
  end
  count(r.status, r.queue, 1)
  if r.status == SCHEDULED then
    schedule(id, r)
  elseif has(effects, TAKES_PLACE) then
    r.place = call('INCR', P .. 'seq')
    line_up(id, r)
  else
    line_up_again(id, r)
  end
  return save(id, r), is_other
end

-- Take a job that waits out of where it waits.
local function take_out(id, r, is_thorough)
  if r.status == SCHEDULED then
    call('ZREM', due_key(r.flags), member(r, id))
  elseif has(r.flags, ALONE) then
    call('ZREM', P .. 'alone:' .. r.queue, id)
  else
    local key = r.queue .. ':' .. r.priority
    call('ZREM', P .. 'back:' .. key, id)
    -- From within the list it is removed only by an operator, since that takes the longer the
    -- longer the list is: whoever comes upon the id there passes over it.
    if is_thorough then
      call('LREM', P .. 'ready:' .. key, 0, id)
    end
  end
end
