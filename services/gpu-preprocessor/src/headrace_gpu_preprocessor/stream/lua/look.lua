-- What those who work here have to know: whether the stream is paused, which of the jobs were
-- cancelled, and which entries are not ours any more; the server may have been flushed.
-- KEYS: stream, paused, cancelled.
-- ARGV: group, consumer, then id, delivery number, job id, run, of one after the other.
-- Answer: {why it is paused or false, {ids of entries of cancelled jobs}, {ids that are lost}}.
local cancelled, lost = {}, {}
for i = 3, #ARGV, 4 do
  if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[i], ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  elseif is_cancelled(KEYS[3], ARGV[i + 2], ARGV[i + 3]) then
    cancelled[#cancelled + 1] = ARGV[i]
  end
end
return {redis.call('GET', KEYS[2]), cancelled, lost}
