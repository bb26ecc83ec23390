-- Drop what every group of a stream is done with: below its oldest pending entry, and below what it
-- was handed last. KEYS: stream. ARGV: entries to keep of a stream without any group, or -1 for all.
-- Answer: entries dropped.
local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return ms, sequence
end
-- Compared as text of equal length: 64 bits do not fit into Lua's numbers.
local function older(a, b)
  local a_ms, a_sequence = parts(a)
  local b_ms, b_sequence = parts(b)
  if a_ms ~= b_ms then
    if #a_ms ~= #b_ms then return #a_ms < #b_ms end
    return a_ms < b_ms
  end
  if #a_sequence ~= #b_sequence then return #a_sequence < #b_sequence end
  return a_sequence < b_sequence
end

if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 then
  if tonumber(ARGV[1]) < 0 then return 0 end
  return redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
end
local needed
for _, flat in ipairs(groups) do
  local group = record(flat)
  local oldest = group['last-delivered-id']
  local pending = redis.call('XPENDING', KEYS[1], group.name)
  if pending[1] > 0 and older(pending[2], oldest) then oldest = pending[2] end
  if needed == nil or older(oldest, needed) then needed = oldest end
end
return redis.call('XTRIM', KEYS[1], 'MINID', needed)
