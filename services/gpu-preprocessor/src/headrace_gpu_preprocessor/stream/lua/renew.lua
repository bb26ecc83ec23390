-- Renew leases: idle goes to 0, the delivery number stays. XCLAIM alone would steal an entry back.
-- KEYS: stream. ARGV: group, consumer, then id, delivery number, id, delivery number ...
-- Answer: the ids that are not ours any more.
local lost = {}
for i = 3, #ARGV, 2 do
  if is_held(KEYS[1], ARGV[1], ARGV[2], ARGV[i], ARGV[i + 1]) then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
