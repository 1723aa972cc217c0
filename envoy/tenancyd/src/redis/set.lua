-- Sets how much is used in the period that lasts. What lies in abandoned leases comes back.
local counter, clock_start, clock_end, usage = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), units(ARGV[4])
local leases_kept, totals_kept, silence = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = clock(ARGV[8])
local second = math.floor(now / 1000)
if second < clock_start or second >= clock_end then return {'clock', whole(now)} end
if not redis.call('ZSCORE', TOUCHED, counter) and redis.call('ZCARD', TOUCHED) >= tonumber(ARGV[9]) then
  return {'refused', 'counters'}
end

redis.call('ZADD', TOUCHED, whole(now), counter)
local start, stop = lasting(counter, clock_start, clock_end)
local key = begin(counter, start, stop, leases_kept, totals_kept, second)
local all = redis.call('HGETALL', key)
for at = 1, #all, 2 do
  if all[at]:sub(1, 1) == '@' then
    local row = row_of(all[at + 1])
    if row.seen < now - silence then
      row.granted = row.used
      redis.call('HSET', key, all[at], row_text(row))
    end
  end
end
redis.call('HSET', key, 'base', '0', 'folded_granted', redis.call('HGET', key, 'folded_used') or '0')
redis.call('HSET', key, 'base', text(max(sub(usage, load(key, nil, -math.huge).used), LEAST)))
return {'ok'}
