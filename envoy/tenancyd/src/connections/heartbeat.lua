-- An instance lives. It hears this itself, and so knows that it still hears anything.
local me, channel, lifetime = unpack(ARGV)
local now = redis.call('TIME')[1]
redis.call('ZADD', 'tenancyd:connections:instances', now, me)
redis.call('ZREMRANGEBYSCORE', 'tenancyd:connections:instances', '-inf', '(' .. (now - lifetime))
redis.call('PUBLISH', channel .. ':' .. me, '')
return 'OK'
