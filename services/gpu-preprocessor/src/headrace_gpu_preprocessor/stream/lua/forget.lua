-- Forget which entries of jobs were worked on, of those that have ended.
-- KEYS: stream, running. ARGV: group. Answer: how many.
local flat = redis.call('HGETALL', KEYS[2])
local forgotten = 0
for i = 1, #flat, 2 do
  if not is_pending(KEYS[1], ARGV[1], flat[i + 1]) then
    redis.call('HDEL', KEYS[2], flat[i])
    forgotten = forgotten + 1
  end
end
return forgotten
