-- What those who work here have to know: whether the stream is paused, which of the jobs were
-- cancelled, and which entries are not ours any more; the server may have been flushed.
-- KEYS: stream, paused, cancelled.
-- ARGV: group, consumer, then id, delivery number, job id, id, delivery number, job id ...
-- Answer: {why it is paused or false, {ids of entries of cancelled jobs}, {ids that are lost}}.
local cancelled, lost = {}, {}
for i = 3, #ARGV, 3 do
  if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[i], ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  elseif redis.call('HEXISTS', KEYS[3], ARGV[i + 2]) == 1 then
    cancelled[#cancelled + 1] = ARGV[i]
  end
end
return {redis.call('GET', KEYS[2]), cancelled, lost}
