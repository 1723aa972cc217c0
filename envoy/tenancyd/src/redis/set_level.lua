-- Sets a level, which is a period that always lasts; or forgets it, where no figure comes.
local counter, start, usage, ahead, max_counters = unpack(ARGV)
local member = member_of(counter, tonumber(start))
local key = key_of(member)
if usage == '' then
  redis.call('DEL', key)
  redis.call('ZREM', PERIODS, member)
  redis.call('ZREM', TOUCHED, counter)
  return {'ok'}
end
if not redis.call('ZSCORE', TOUCHED, counter) and redis.call('ZCARD', TOUCHED) >= tonumber(max_counters) then
  return {'refused', 'counters'}
end
redis.call('ZADD', TOUCHED, whole(clock(ahead)), counter)
redis.call('ZADD', PERIODS, '-' .. start, member)
redis.call('HSET', key, 'base', usage, 'end', start)
return {'ok'}
