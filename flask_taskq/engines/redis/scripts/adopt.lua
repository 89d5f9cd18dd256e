-- Keep records that another engine gives away.
-- now; of each: id, record, class, when it expires, how many lines its log has, those

-- It takes memory, and does not begin() like the others: a server that is full refuses it.
local now = tonumber(ARGV[1])
local at = 2
while at <= #ARGV do
  local id, record, class, expires, lines = unpack(ARGV, at, at + 4)
  local ttl = math.min(expires - now, END_OF_TIME) + SLACK
  local is_new = not read(load(id))
  call('SET', P .. 'j:' .. id, record, 'PX', ttl)
  call('DEL', P .. 'log:' .. id)
  if tonumber(lines) > 0 then
    call('RPUSH', P .. 'log:' .. id, unpack(ARGV, at + 5, at + 4 + lines))
    call('PEXPIRE', P .. 'log:' .. id, ttl)
  end
  if is_new then
    push('over:' .. class, { id })
  end
  at = at + 5 + lines
end
