-- Stands before every script of this directory.
--
-- Keys (docs/reference/stream.md). On a cluster they must share a slot: put a {hash tag} in REDIS_STREAM.
--   {stream}            stream: the jobs; the groups' pending entries are the leases
--   {stream}:delayed    sorted set: entries that wait for their next attempt; score = due, in ms of the
--                       server's clock; member = JSON {"from": source entry id, "fields": {name: value}}
--   {stream}:reports    stream: what became of entries
--   {stream}:running    hash: job id to the entry of it that is worked on, or was until the last look;
--                       from the second run of a job on with ` run N` after the id
--   {stream}:cancelled  hash: job id to the time at which it was cancelled, in ms, and the run that was
--   {stream}:paused     text: exists while nothing new may be taken; says why
--   {stream}:settled    sorted set: jobs that have ended, by when their remains are removed, in ms
--   REDIS_DLQ_STREAM    stream: dead letters
--
-- A delivery is (group, consumer, entry id, delivery number). Whoever holds it may end it; every script
-- that ends one answers 0 and does nothing when somebody else holds the entry by now.
-- Nothing is written before everything that can fail has been looked at, because a script that fails
-- half-way is not rolled back. XACK comes last: what is not acknowledged comes again.

local function is_held(stream, group, consumer, id, delivery)
  local rows = redis.pcall('XPENDING', stream, group, id, id, 1)
  if rows.err then
    if string.find(rows.err, 'NOGROUP', 1, true) then return false end -- flushed: nobody holds it
    error(rows.err)
  end
  local row = rows[1]
  return row ~= nil and row[2] == consumer and row[4] == tonumber(delivery)
end

-- Whether anybody holds the entry; a group that is missing was flushed, and nobody does.
local function is_pending(stream, group, id)
  local rows = redis.pcall('XPENDING', stream, group, id, id, 1)
  return not rows.err and rows[1] ~= nil
end

-- Whether this run of a job is cancelled; a run that was begun after that is not.
local function is_cancelled(cancelled, job, run)
  local told = redis.call('HGET', cancelled, job)
  if not told then return false end
  local last = tonumber(string.match(told, ' (%d+)$'))
  return last == nil or tonumber(run) <= last
end

-- Before anything is written: the key is of this type, or does not exist.
local function expect(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then error('WRONGTYPE ' .. key .. ' holds a ' .. found) end
end

-- XADD the arguments from first, count of them; nothing when there are none.
local function append(stream, first, count)
  if count > 0 then redis.call('XADD', stream, '*', unpack(ARGV, first, first + count - 1)) end
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Read the flat name, value, name, value ... of XINFO.
local function record(flat)
  local read = {}
  for i = 1, #flat, 2 do read[flat[i]] = flat[i + 1] end
  return read
end
