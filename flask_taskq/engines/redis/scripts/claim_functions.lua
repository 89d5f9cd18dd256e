-- Claims. This file is put after common.lua in the scripts that claim jobs.

-- A job whose record is from a newer release is retried after this time, in milliseconds. A
-- worker of the newer release may claim it then.
local LATER = 1000

-- Queue scheduled jobs that are due. Returns whether there may be more.
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
        if r and (r.status == SCHEDULED or r.status == QUEUED and not find_holder(id)) then
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

-- Claim the jobs of entries that were removed from a queue. An entry is valid if the record
-- still has the same place: a job that was cancelled or queued again has left an old entry
-- behind. The texts of a record are not checked. The worker detects a damaged record.
local function deliver(worker, queue, entries, now, out)
  local keys = {}
  for i, entry in ipairs(entries) do
    keys[i] = P .. 'j:' .. id_of(entry)
  end
  local raws = call('MGET', unpack(keys))
  local sub, byte = string.sub, string.byte
  local own, ids, found = {}, out.ids, out.raws
  for i, entry in ipairs(entries) do
    local raw = raws[i]
    if is_newer(raw) then
      call('ZADD', P .. 'due', now + LATER, string.format('%012x', 0) .. id_of(entry))
    elseif raw and #raw >= TAIL - 1 and byte(raw, STATUS_AT - 1) == FORMAT
      and byte(raw, STATUS_AT) == QUEUED
      and sub(raw, PLACE_AT, PLACE_AT + 7) == sub(entry, 1, 8) then
      local id = id_of(entry)
      own[#own + 1] = id
      own[#own + 1] = out.token
      ids[#ids + 1] = id
      found[#found + 1] = raw
    end
  end
  if #own > 0 then
    call('HSET', P .. 'own:' .. worker, unpack(own))
    count(QUEUED, queue, -#own / 2)
  end
end

-- Remove members from a sorted set, and return them as list entries.
local function pop(key, wanted)
  local entries = {}
  local popped = call('ZPOPMIN', key, wanted)
  for i = 1, #popped, 2 do
    entries[#entries + 1] = entry_of(tonumber(popped[i + 1]) % LEVEL, popped[i])
  end
  return entries
end

-- Claim jobs that must run alone. Returns whether none are left in this queue.
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

-- The calls of a connection are numbered, because a reply may be lost. The worker would then
-- not know the jobs that the call has claimed, and the settlements of the call would look stale
-- when they are repeated. Therefore the last call is stored, and the next call names the last
-- reply that arrived. Replies that report an expired lease do not count. The claims of a call
-- are in own:<worker> under its number. For jobs that simply succeeded, the record is
-- sufficient: see settle.lua.
local function recall(worker, channel, seen)
  local kept = call('HGET', P .. 'call:' .. worker, channel)
  local memory = { settled = {}, settled_text = '', ready = {} }
  if kept then
    local number, settled, ready = string.match(kept, '^(%d+)\n(.-)\n(.*)$')
    if tonumber(number) > seen then
      memory.is_lost = true
      memory.settled_text = settled
      for token, status in string.gmatch(settled, '([^ ]+)=(%d+)') do
        memory.settled[token] = status
      end
      for id in string.gmatch(ready, '[^ ]+') do
        memory.ready[#memory.ready + 1] = id
      end
    end
  end
  return memory
end

local function repeat_claims(worker, channel, seen, out)
  local all = call('HGETALL', P .. 'own:' .. worker)
  for i = 1, #all, 2 do
    local id, token = all[i], all[i + 1]
    local of, number = string.match(token, '^([^:]*):(%d+)')
    if of == channel and tonumber(number) > seen then
      local raw = load(id)
      if read(raw) then
        out.ids[#out.ids + 1] = id
        out.raws[#out.raws + 1] = raw
        out.tokens[#out.ids] = string.match(token, '^[^:]*:[^:]*:%d+')
      end
    end
  end
end

local function remember(worker, channel, number, memory, settled, ready)
  if memory.settled_text ~= '' then
    settled[#settled + 1] = memory.settled_text
  end
  call('HSET', P .. 'call:' .. worker, channel, number .. '\n' .. table.concat(settled, ' ')
    .. '\n' .. table.concat(ready, ' '))
end

local function claim_fetched(to, limit, out)
  local again = false
  local prefix = to.alone and 'wake:alone:' or 'wake:'
  local some_paused = call('EXISTS', P .. 'paused') == 1
  for _, queue in ipairs(to.queues) do
    if some_paused and call('SISMEMBER', P .. 'paused', queue) == 1 then
      -- resume.lua wakes a consumer for this queue.
    elseif #out.ids >= limit then
      -- The queue is not checked further, so the consumer that is woken may find nothing.
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

-- Claim jobs by their ids, regardless of their position. An entry may remain in a list, so each
-- job gets a new place to make the entry invalid.
local function claim_named(to, out)
  for _, id in ipairs(to.ids) do
    local r = read(load(id))
    if r and r.status == QUEUED and not find_holder(id) then
      if has(r.flags, ALONE) then
        call('ZREM', P .. 'alone:' .. r.queue, id)
      end
      r.place = call('INCR', P .. 'seq')
      hold(r, to.worker, out.token)
      count(QUEUED, r.queue, -1)
      call('HSET', P .. 'own:' .. to.worker, id, out.token .. WRITTEN)
      out.ids[#out.ids + 1] = id
      out.raws[#out.raws + 1] = save(id, r)
    end
  end
end

-- Returns: the value of the lease's last renewal, or nothing if the lease has expired; when the
-- next job is due; whether to call again at once; the outcomes, one byte each; the ids of
-- follow-ups that may run; the ids of the claimed jobs; their tokens, if these are not the
-- token of this call; the sizes of their records; and the records.
local function fetch(to, limit, memory, settled, outcomes, ready)
  local lease = call('HGET', P .. 'leases', to.worker)
  local alive = lease and lease ~= to.overdue
  local out = { ids = {}, raws = {}, tokens = {}, looked = 0,
    token = to.channel .. ':' .. to.number .. ':' .. string.format('%.0f', to.now) }
  local again = false
  if alive and memory.is_lost then
    repeat_claims(to.worker, to.channel, to.seen, out)
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
    remember(to.worker, to.channel, to.number, memory, settled, ready)
  end
  flush()
  local sizes = {}
  for i, raw in ipairs(out.raws) do
    sizes[i] = #raw
  end
  local next_due = NONE
  if #out.ids == 0 and limit > 0 then
    local first = call('ZRANGE', due_key(to.alone and ALONE or 0), 0, 0, 'WITHSCORES')
    next_due = tonumber(first[2] or NONE)
  end
  return { alive and lease or '', next_due, again and 1 or 0, string.char(unpack(outcomes)),
    table.concat(ready, ' '), table.concat(out.ids, '\n'), table.concat(out.tokens, '\n'),
    table.concat(sizes, ' '), table.concat(out.raws) }
end
