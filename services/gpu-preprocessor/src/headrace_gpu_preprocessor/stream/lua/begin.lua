-- Work on a job begins, unless the job is cancelled, the stream is paused, or another entry of the
-- same job and run is worked on: then this one is one too many, and acknowledged. A producer that
-- was not sure added it twice.
-- KEYS: stream, running, cancelled, paused.
-- ARGV: group, consumer, id, delivery number, job id, its run, both as `running` has them.
-- Answer: "begun", "cancelled", "paused", "lost" when the entry is not ours any more, or the id of
-- the other entry.
if not is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 'lost' end
if is_cancelled(KEYS[3], ARGV[5], ARGV[6]) then return 'cancelled' end
if redis.call('EXISTS', KEYS[4]) == 1 then return 'paused' end
local other = redis.call('HGET', KEYS[2], ARGV[7])
if other and other ~= ARGV[3] and is_pending(KEYS[1], ARGV[1], other) then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
  return other
end
redis.call('HSET', KEYS[2], ARGV[7], ARGV[3])
return 'begun'
