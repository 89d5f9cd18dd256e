-- Let workers fetch from a queue again.
-- Arguments: queue.

begin()
call('SREM', P .. 'paused', ARGV[1])
for _, alone in ipairs({ true, false }) do
  if call('EXISTS', P .. (alone and 'alone:' or 'levels:') .. ARGV[1]) == 1 then
    wake(ARGV[1], alone)
  end
end
flush()
