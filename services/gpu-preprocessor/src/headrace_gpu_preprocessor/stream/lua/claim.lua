-- Hand out entries that nobody works on: those of consumers that stopped renewing, or our own.
-- KEYS: stream, paused. ARGV: group, consumer, least idle ms, how many, "own" or "any", then ids
-- that run here.
-- Answer: {{id, delivery number, {name, value, ...}}, ...}, {ids whose entry was deleted}.
--
-- Not XAUTOCLAIM: that tells no delivery number, would hand out what runs in this very process, and
-- keeps deleted entries on Redis 6.2.
if redis.call('EXISTS', KEYS[2]) == 1 then return {{}, {}} end
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local least_idle, wanted = ARGV[3], tonumber(ARGV[4])
local running = {}
for i = 6, #ARGV do running[ARGV[i]] = true end

local PAGE = 100
local claimed, deleted, start = {}, {}, '-'
repeat
  local query = {'XPENDING', stream, group, 'IDLE', least_idle, start, '+', PAGE}
  if ARGV[5] == 'own' then query[#query + 1] = consumer end
  local rows = redis.call(unpack(query))
  for _, row in ipairs(rows) do
    local id = row[1]
    start = '(' .. id
    if #claimed < wanted and not running[id] then
      local entry = redis.call('XRANGE', stream, id, id)[1]
      if entry then
        redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', row[4] + 1, 'JUSTID')
        claimed[#claimed + 1] = {id, row[4] + 1, entry[2]}
      else
        redis.call('XACK', stream, group, id)
        deleted[#deleted + 1] = id
      end
    end
  end
until #rows < PAGE or #claimed >= wanted
return {claimed, deleted}
