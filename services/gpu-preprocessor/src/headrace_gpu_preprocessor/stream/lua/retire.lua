-- Remove the names of consumers that are gone and hold nothing. XGROUP DELCONSUMER drops what a
-- consumer holds, so looking and removing must be one step.
-- KEYS: stream. ARGV: group, consumer that asks, idle ms. Answer: the names removed.
local removed = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = record(flat)
  if consumer.name ~= ARGV[2] and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
