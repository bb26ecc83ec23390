-- A job is done: acknowledge, and report.
-- KEYS: stream, reports. ARGV: group, consumer, id, delivery number, then the report's fields.
if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
expect(KEYS[2], 'stream')
append(KEYS[2], 5, #ARGV - 4)
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
