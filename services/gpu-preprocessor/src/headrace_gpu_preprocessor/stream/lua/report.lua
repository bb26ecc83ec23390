-- A report on progress, which may be left out: only while the reports are read.
-- KEYS: reports. ARGV: length from which on nothing is added, then the report's fields.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
append(KEYS[1], 2, #ARGV - 1)
return 1
