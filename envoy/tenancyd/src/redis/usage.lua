-- How much is used in the period that lasts; or of a level, whose period always does.
local counter, start, clock_end = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3] or '')
if clock_end then
  local now = clock(ARGV[4])
  local second = math.floor(now / 1000)
  if second < start or second >= clock_end then return {'clock', whole(now)} end
  start = lasting(counter, start, clock_end)
end
return {'ok', text(load(key_of(member_of(counter, start)), nil, -math.huge).used)}
