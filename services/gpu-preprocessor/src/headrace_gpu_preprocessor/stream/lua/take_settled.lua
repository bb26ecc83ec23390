-- Take jobs that have ended, to remove what they left; whoever does not say so in time has them
-- taken again by others. KEYS: settled. ARGV: how many at most, ms until they are taken again.
-- Answer: the members.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), member)
end
return due
