-- Publishes a message, and says how many of a tenant's connections on other instances it was handed to, and how many it
-- missed.
local me, tenant, channel, to_connection, to_user, payload, lifetime = unpack(ARGV)
redis.call('PUBLISH', channel, payload)
local handed, missed = 0, 0
local living = redis.call('TIME')[1] - lifetime
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', 'tenancyd:connections:instances', living, '+inf')) do
  if instance ~= me then
    local key = 'tenancyd:{' .. tenant .. '}:connections:' .. instance
    local found = 0
    if to_connection == '' and to_user == '' then
      found = redis.call('ZLEXCOUNT', key, '[c ', '(c!')
    else
      if to_connection ~= '' then
        found = redis.call('ZLEXCOUNT', key, '[c ' .. to_connection .. ' ', '(c ' .. to_connection .. '!')
      end
      if found == 0 then
        found = redis.call('ZLEXCOUNT', key, '[u ' .. to_user .. ' ', '(u ' .. to_user .. '!')
      end
    end
    if found > 0 then
      if redis.call('PUBSUB', 'NUMSUB', channel .. ':' .. instance)[2] > 0 then
        handed = handed + found
      else
        missed = missed + found
      end
    end
  end
end
return {handed, missed}
