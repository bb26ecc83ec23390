-- Put entries whose time has come back into the stream.
-- KEYS: stream, delayed, dead letters, paused. ARGV: how many at most, the time as dead
-- letters tell it, consumer.
-- Answer: {moved, unreadable and buried, ms until the next is due or -1}.
if redis.call('EXISTS', KEYS[4]) == 1 then return {0, 0, -1} end
expect(KEYS[1], 'stream')
expect(KEYS[3], 'stream')
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local moved, buried = 0, 0
for _, member in ipairs(due) do
  local readable, waiting = pcall(cjson.decode, member)
  local flat = {}
  if readable and type(waiting) == 'table' and type(waiting.fields) == 'table' then
    for name, value in pairs(waiting.fields) do
      flat[#flat + 1] = tostring(name)
      flat[#flat + 1] = tostring(value)
    end
  end
  if #flat > 0 then
    redis.call('XADD', KEYS[1], '*', unpack(flat))
    moved = moved + 1
  else
    redis.call('XADD', KEYS[3], '*', 'member', member, 'code', 'malformed_entry',
      'reason', 'unreadable member of ' .. KEYS[2], 'failedAt', ARGV[2], 'sourceId', '',
      'deliveries', '0', 'consumer', ARGV[3])
    buried = buried + 1
  end
  redis.call('ZREM', KEYS[2], member)
end
local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
return {moved, buried, next_due and math.max(0, tonumber(next_due) - now) or -1}
