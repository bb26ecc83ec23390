-- An attempt failed: acknowledge, keep the entry for its next attempt, and report.
-- KEYS: stream, reports, delayed.
-- ARGV: group, consumer, id, delivery number, delay in ms, member of the sorted set, then the report's fields.
if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
expect(KEYS[2], 'stream')
expect(KEYS[3], 'zset')
redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms() + tonumber(ARGV[5])), ARGV[6])
append(KEYS[2], 7, #ARGV - 6)
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
