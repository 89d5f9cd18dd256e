-- Transitions. This file is put after common.lua in the scripts that make transitions.
--
-- The caller passes the effects of a transition on a record. They come from the table of
-- transitions, and packing.py encodes them.

local ROW = '<BbI4d' -- status, increment of the attempt, effects, retention time
local SETS_DUE, RESETS_DUE, SETS_REASON, RESETS_REASON = 1, 2, 4, 8
local SETS_ERROR, RESETS_ERROR, SETS_ATTEMPTS, SETS_STARTED = 16, 32, 64, 128
local SETS_RESULT, SETS_COUNTERS, RESETS_WORKER, RESETS_RELEASES = 256, 512, 1024, 2048
local COUNTS_RELEASE, MOVES_ALONE, RESETS_LANE, TAKES_PLACE = 4096, 8192, 16384, 32768
local SETS_CANCEL, BEGINS_ANEW = 65536, 131072

-- The values of a change. The second transition replaces the first one if cancellation was
-- requested. If there is none, its status is 0.
local CHANGE = '<BbI4dBbI4dddI2I2I2I4I4I4'

local function unpack_change(blob, at)
  local status, attempt, effects, ttl, other_status, other_attempt, other_effects, other_ttl,
    due, started, crashes, suspects, s, x, e, t, from = struct.unpack(CHANGE, blob, at)
  local sub = string.sub
  s = from + s -- each variable becomes the start of the next text
  x = s + x
  e = x + e
  return {
    status = status, attempt = attempt, effects = effects, ttl = ttl,
    other_status = other_status, other_attempt = other_attempt, other_effects = other_effects,
    other_ttl = other_ttl, due = due, started = started, crashes = crashes,
    suspects = suspects, reason = sub(blob, from, s - 1), result = sub(blob, s, x - 1),
    error = sub(blob, x, e - 1), attempts = sub(blob, e, e + t - 1),
  }
end

-- Cache of decoded effects, because most changes of a call have the same ones.
local known_effects = {}

local function find_effects(bits)
  local f = known_effects[bits]
  if not f then
    f = {
      sets_due = has(bits, SETS_DUE), resets_due = has(bits, RESETS_DUE),
      sets_reason = has(bits, SETS_REASON), resets_reason = has(bits, RESETS_REASON),
      sets_error = has(bits, SETS_ERROR), resets_error = has(bits, RESETS_ERROR),
      sets_attempts = has(bits, SETS_ATTEMPTS), sets_started = has(bits, SETS_STARTED),
      sets_result = has(bits, SETS_RESULT), sets_counters = has(bits, SETS_COUNTERS),
      resets_worker = has(bits, RESETS_WORKER), resets_releases = has(bits, RESETS_RELEASES),
      counts_release = has(bits, COUNTS_RELEASE), moves_alone = has(bits, MOVES_ALONE),
      resets_lane = has(bits, RESETS_LANE), takes_place = has(bits, TAKES_PLACE),
      sets_cancel = has(bits, SETS_CANCEL), begins_anew = has(bits, BEGINS_ANEW),
    }
    known_effects[bits] = f
  end
  return f
end

local function set_fields(r, f, v, now)
  if f.sets_due then
    r.due = v.due
  elseif f.resets_due then
    r.due = NONE
  end
  if f.sets_reason then
    r.reason = v.reason
  elseif f.resets_reason then
    r.reason = ''
  end
  if f.sets_error then
    r.error = v.error
  elseif f.resets_error then
    r.error = ''
  end
  if f.sets_attempts then
    r.attempts = v.attempts
  end
  if f.sets_started and v.started ~= NONE then
    r.started = v.started
  end
  if f.sets_result then
    r.result = v.result
  end
  if f.sets_counters then
    r.crashes, r.suspects = v.crashes, v.suspects
  end
  if f.resets_worker then
    r.worker = ''
  end
  if f.counts_release then
    r.released = r.released == NONE and now or r.released
    r.releases = r.releases + 1
  elseif f.resets_releases then
    r.released, r.releases = NONE, 0
  end
  if f.moves_alone then
    if not has(r.flags, ALONE) then
      r.flags = r.flags + ALONE
    end
  elseif f.resets_lane and r.flags > 0 and has(r.flags, ALONE) then
    r.flags = r.flags - ALONE
  end
  if f.sets_cancel and not has(r.flags, CANCEL) then
    r.flags = r.flags + CANCEL
  end
  if f.begins_anew then
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
  if r.flags > 0 and has(r.flags, LOGS) then
    call('PEXPIRE', P .. 'log:' .. id, ttl + SLACK)
  end
  local name = NAMES[r.status]
  local ids = ended[name] or {}
  ended[name] = ids
  ids[#ids + 1] = id
  return save(id, r, ttl)
end

-- Make the transition of a change. Returns the new record, and whether the second transition
-- was made.
local function change(id, r, v, now)
  local before = r.status
  local status, attempt, bits, ttl = v.status, v.attempt, v.effects, v.ttl
  local is_other = v.other_status > 0 and has(r.flags, CANCEL)
  if is_other then
    status, attempt, bits, ttl = v.other_status, v.other_attempt, v.other_effects, v.other_ttl
  end
  local f = find_effects(bits)
  if before == QUEUED or before == SCHEDULED then
    count(before, r.queue, -1)
  end
  r.attempt = r.attempt + attempt
  set_fields(r, f, v, now)
  r.status, r.updated, r.version = status, now, r.version + 1
  if NAMES[status] then
    return finish(id, r, ttl, now), is_other
  end
  count(status, r.queue, 1)
  if status == SCHEDULED then
    schedule(id, r)
  elseif f.takes_place then
    r.place = call('INCR', P .. 'seq')
    line_up(id, r)
  else
    line_up_again(id, r)
  end
  return save(id, r), is_other
end

-- Remove a waiting job from its queue, or from the scheduled jobs.
local function take_out(id, r, is_thorough)
  if r.status == SCHEDULED then
    call('ZREM', due_key(r.flags), member(r, id))
  elseif has(r.flags, ALONE) then
    call('ZREM', P .. 'alone:' .. r.queue, id)
  else
    local key = r.queue .. ':' .. r.priority
    call('ZREM', P .. 'back:' .. key, id)
    -- An entry inside the list is removed only by operations of an operator, because the time
    -- for this grows with the length of the list. Otherwise the entry stays, and a claim skips
    -- it.
    if is_thorough then
      call('LREM', P .. 'ready:' .. key, 0, entry_of(r.place, id))
    end
  end
end
