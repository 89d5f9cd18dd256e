-- How a worker comes to its jobs. It stands behind common.lua in the scripts that claim.

-- How long a job waits whose record only a newer release understands, until it is looked at
-- again, perhaps by a worker of that.
local LATER = 1000

-- Whether there may be more of them.
local function promote(now)
  local more = false
  for _, key in ipairs({ P .. 'due', P .. 'due:alone' }) do
    local members = call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, BOUND)
    if #members > 0 then
      call('ZREM', key, unpack(members))
      local place = call('INCRBY', P .. 'seq', #members) - #members
      for i, name in ipairs(members) do
        local id = string.sub(name, 13)
        local raw = load(id)
        local r = read(raw)
        if r and (r.status == SCHEDULED or r.status == QUEUED) then
          if r.status == SCHEDULED then
            count(SCHEDULED, r.queue, -1)
            count(QUEUED, r.queue, 1)
          end
          r.status, r.place, r.due, r.updated = QUEUED, place + i, NONE, now
          r.version = r.version + 1
          save(id, r)
          line_up(id, r)
        elseif is_newer(raw) then
          call('ZADD', key, now + LATER, name)
        end
      end
      more = more or #members == BOUND
    end
  end
  push_queued()
  return more
end

-- Of these ids, which were taken from their queue, claim those that are still queued
-- there: one that was cancelled meanwhile left its id behind.
local function deliver(worker, queue, ids, now, out)
  local keys = {}
  for i, id in ipairs(ids) do
    keys[i] = P .. 'j:' .. id
  end
  local raws = call('MGET', unpack(keys))
  local own, claimed = {}, 0
  for i, id in ipairs(ids) do
    local raw = raws[i]
    if is_newer(raw) then
      call('ZADD', P .. 'due', now + LATER, string.format('%012x', 0) .. id)
    elseif raw and #raw >= TAIL - 1 and string.byte(raw, STATUS_AT) == QUEUED then
      local seq, place, format, _, due, q, flags, priority, attempt, max_attempts, crashes,
        suspects, claim, releases, version, created, updated, started, finished, expires,
        released, a, w, s, k, m, x, e, t, g, z, at = struct.unpack(HEAD, raw)
      local is_whole = at + q + a + w + s + k + m + x + e + t + g + z == #raw + 1
        and format == FORMAT
      if is_whole and string.sub(raw, at, at + q - 1) == queue then
        local body = at + q + a + w + s
        local behind = body + k + m + x + e + t
        raw = struct.pack(HEAD, seq, place, FORMAT, RUNNING, NONE, q, flags, priority,
          attempt + 1, max_attempts, crashes, suspects, claim + 1, releases, version + 1,
          created, now, now, finished, expires, released, a, #worker, 0, k, m, x, e, t, 0, z)
          .. string.sub(raw, at, at + q + a - 1) .. worker .. (g == 0 and string.sub(raw, body)
          or string.sub(raw, body, behind - 1) .. string.sub(raw, behind + g))
        call('SET', keys[i], raw)
        own[#own + 1] = id
        own[#own + 1] = claim + 1
        out.ids[#out.ids + 1] = id
        out.raws[#out.raws + 1] = raw
        out.claims[#out.claims + 1] = id .. ':' .. claim + 1
        claimed = claimed + 1
      end
    end
  end
  if claimed > 0 then
    call('HSET', P .. 'own:' .. worker, unpack(own))
    count(QUEUED, queue, -claimed)
  end
  return claimed
end

local function pop(key, wanted)
  local ids = {}
  for i, value in ipairs(call('ZPOPMIN', key, wanted)) do
    if i % 2 == 1 then
      ids[#ids + 1] = value
    end
  end
  return ids
end

-- Whether nothing is left in this queue.
local function claim_alone(worker, queue, limit, now, out)
  local ids = pop(P .. 'alone:' .. queue, limit - #out.ids)
  if #ids > 0 then
    deliver(worker, queue, ids, now, out)
  end
  return call('EXISTS', P .. 'alone:' .. queue) == 0
end

local function claim_level(worker, queue, level, limit, now, out)
  local key = queue .. ':' .. level
  local from_back = true
  while #out.ids < limit and out.looked < limit + BOUND do
    local wanted = limit - #out.ids
    local ids = from_back and pop(P .. 'back:' .. key, wanted)
      or call('LPOP', P .. 'ready:' .. key, wanted) or {}
    out.looked = out.looked + #ids
    if #ids > 0 then
      deliver(worker, queue, ids, now, out)
    end
    if #ids < wanted then
      if not from_back then
        call('ZREM', P .. 'levels:' .. queue, level)
        return true
      end
      from_back = false
    end
  end
  if call('EXISTS', P .. 'ready:' .. key, P .. 'back:' .. key) == 0 then
    call('ZREM', P .. 'levels:' .. queue, level)
    return true
  end
  return false
end

local function claim_ready(worker, queue, limit, now, out)
  for _, level in ipairs(call('ZRANGE', P .. 'levels:' .. queue, 0, -1)) do
    if not claim_level(worker, queue, level, limit, now, out) then
      return false
    end
  end
  return true
end

-- The calls of a connection are numbered, and the reply to one may be lost on its way. Then
-- what it had claimed would be held by a worker that does not know of it, and what it had
-- settled would look as if it came too late. So the last call is kept, and the next one
-- says which reply was the last to arrive, not counting those that say that the lease is over.
local function recall(worker, channel, seen)
  local kept = call('HGET', P .. 'call:' .. worker, channel)
  local memory = { settled = {}, settled_text = '', claimed = {}, ready = {} }
  if kept then
    local number, settled, claimed, ready = string.match(kept, '^(%d+)\n(.-)\n(.-)\n(.*)$')
    if tonumber(number) > seen then
      memory.settled_text = settled
      for token, status in string.gmatch(settled, '([^ ]+)=(%d+)') do
        memory.settled[token] = status
      end
      for id in string.gmatch(ready, '[^ ]+') do
        memory.ready[#memory.ready + 1] = id
      end
      for token in string.gmatch(claimed, '[^ ]+') do
        memory.claimed[#memory.claimed + 1] = token
      end
    end
  end
  return memory
end

local function repeat_claims(worker, memory, out)
  for _, token in ipairs(memory.claimed) do
    local id, claim = string.match(token, '^(.*):(%d+)$')
    local raw = call('HGET', P .. 'own:' .. worker, id) == claim and load(id)
    if read(raw) then
      out.ids[#out.ids + 1] = id
      out.raws[#out.raws + 1] = raw
      out.claims[#out.claims + 1] = token
    end
  end
end

local function remember(worker, channel, number, memory, settled, claims, ready)
  if memory.settled_text ~= '' then
    settled[#settled + 1] = memory.settled_text
  end
  if #settled + #claims > 0 or #memory.claimed > 0 then
    call('HSET', P .. 'call:' .. worker, channel, number .. '\n' .. table.concat(settled, ' ')
      .. '\n' .. table.concat(claims, ' ') .. '\n' .. table.concat(ready, ' '))
  end
end

local function claim_fetched(to, limit, out)
  local again = false
  local prefix = to.alone and 'wake:alone:' or 'wake:'
  local some_paused = call('EXISTS', P .. 'paused') == 1
  for _, queue in ipairs(to.queues) do
    if some_paused and call('SISMEMBER', P .. 'paused', queue) == 1 then
      -- Whoever resumes it wakes somebody.
    elseif #out.ids >= limit then
      -- Not looked at: whoever is woken may find nothing.
      if call('EXISTS', P .. (to.alone and 'alone:' or 'levels:') .. queue) == 1 then
        wake(queue, to.alone)
      end
    else
      local claim = to.alone and claim_alone or claim_ready
      if claim(to.worker, queue, limit, to.now, out) then
        call('DEL', P .. prefix .. queue)
        tokens[prefix .. queue] = nil
      else
        wake(queue, to.alone)
        again = again or #out.ids < limit
      end
    end
  end
  return again
end

-- Wherever they stand.
local function claim_named(to, out)
  for _, id in ipairs(to.ids) do
    local r = read(load(id))
    if r and r.status == QUEUED then
      if has(r.flags, ALONE) then
        call('ZREM', P .. 'alone:' .. r.queue, id)
      end
      deliver(to.worker, r.queue, { id }, to.now, out)
    end
  end
end

-- The reply: the word of the lease's last renewal, or nothing if it is over; when the next job
-- is due; whether to ask again at once; the outcomes; what became ready; the ids of what was
-- claimed, and their records.
local function fetch(to, limit, memory, settled, outcomes, ready)
  local lease = call('HGET', P .. 'leases', to.worker)
  local alive = lease and lease ~= to.overdue
  local out = { ids = {}, raws = {}, claims = {}, looked = 0 }
  local again = false
  if alive then
    repeat_claims(to.worker, memory, out)
  else
    out.claims = memory.claimed -- for when the lease is renewed
  end
  if alive and limit > 0 then
    again = promote(to.now)
    if to.ids then
      claim_named(to, out)
    else
      again = claim_fetched(to, limit, out) or again
    end
  end
  for _, id in ipairs(memory.ready) do
    ready[#ready + 1] = id
  end
  if lease then
    remember(to.worker, to.channel, to.number, memory, settled, out.claims, ready)
  end
  flush()
  local next_due = NONE
  if #out.ids == 0 and limit > 0 then
    local first = call('ZRANGE', due_key(to.alone and ALONE or 0), 0, 0, 'WITHSCORES')
    next_due = tonumber(first[2] or NONE)
  end
  return { alive and lease or '', next_due, again and 1 or 0, table.concat(outcomes, ' '),
    table.concat(ready, ' '), table.concat(out.ids, '\n'), unpack(out.raws) }
end
