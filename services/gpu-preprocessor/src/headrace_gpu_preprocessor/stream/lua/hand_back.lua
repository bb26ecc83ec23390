-- Give an entry back untouched: it stays pending, so idle that anybody takes it at once, and this
-- delivery is not counted.
-- KEYS: stream. ARGV: group, consumer, id, delivery number, consumer to leave it with, idle ms.
if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[5], 0, ARGV[3],
  'IDLE', ARGV[6], 'RETRYCOUNT', tonumber(ARGV[4]) - 1, 'JUSTID')
return 1
