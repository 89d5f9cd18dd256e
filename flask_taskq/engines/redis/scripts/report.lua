-- Store the reports of jobs that are still held under their token.
-- Arguments: now, worker, channel, number of the call, whether there is anything to store; each
-- report, followed by its log lines.
-- Returns the positions of stale reports, and those of jobs whose cancellation was requested.

local now, channel, number = tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local is_new = false
if ARGV[5] == '1' then
  begin()
  -- A call that is repeated after a lost reply must not add its lines twice.
  local calls = P .. 'call:' .. ARGV[2]
  is_new = tonumber(call('HGET', calls, channel) or NONE) < number
  if is_new and call('HEXISTS', P .. 'leases', ARGV[2]) == 1 then
    call('HSET', calls, channel, number)
  end
end

local stale, cancelled = {}, {}
local index, next_argument = 0, 6
while next_argument <= #ARGV do
  local blob = ARGV[next_argument]
  local line_count, n, i, w, g, from = struct.unpack('<I4I2I2I2I4', blob)
  local token = string.sub(blob, from, from + n - 1)
  from = from + n
  local id = string.sub(blob, from, from + i - 1)
  local worker = string.sub(blob, from + i, from + i + w - 1)
  local progress = string.sub(blob, from + i + w, from + i + w + g - 1)
  local r, is_written = held(worker, id, token)
  if not r then
    stale[#stale + 1] = index
  else
    if is_new and line_count + g > 0 then
      local lines = { unpack(ARGV, next_argument + 1, next_argument + line_count) }
      store_report(id, r, progress, lines, now)
      save(id, r)
      if not is_written then
        call('HSET', P .. 'own:' .. worker, id, token .. WRITTEN)
      end
    end
    if has(r.flags, CANCEL) then
      cancelled[#cancelled + 1] = index
    end
  end
  next_argument = next_argument + 1 + line_count
  index = index + 1
end
return { table.concat(stale, ' '), table.concat(cancelled, ' ') }
