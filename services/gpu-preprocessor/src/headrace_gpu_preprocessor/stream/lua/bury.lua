-- An entry is given up: acknowledge, put it into the dead letters, and report.
-- KEYS: stream, reports, dead letters.
-- ARGV: group, consumer, id, delivery number, how many of the following are the dead letter's fields,
-- those, then the report's fields.
if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
local letter = tonumber(ARGV[5])
expect(KEYS[2], 'stream')
expect(KEYS[3], 'stream')
append(KEYS[3], 6, letter)
append(KEYS[2], 6 + letter, #ARGV - 5 - letter)
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
