-- Forget jobs that were cancelled so long ago that nothing of them can be here any more.
-- KEYS: cancelled. ARGV: ms after which. Answer: how many.
local before = now_ms() - tonumber(ARGV[1])
local flat = redis.call('HGETALL', KEYS[1])
local forgotten = 0
for i = 1, #flat, 2 do
  local since = tonumber(string.match(flat[i + 1], '^%d+')) or 0
  if since < before then
    redis.call('HDEL', KEYS[1], flat[i])
    forgotten = forgotten + 1
  end
end
return forgotten
