-- A tenant's connections after one of them, up to so many of each instance.
local tenant, after, limit, lifetime = unpack(ARGV)
local found = {}
local from = '[c '
if after ~= '' then from = '(c ' .. after .. '!' end
local living = redis.call('TIME')[1] - lifetime
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', 'tenancyd:connections:instances', living, '+inf')) do
  local key = 'tenancyd:{' .. tenant .. '}:connections:' .. instance
  for _, member in ipairs(redis.call('ZRANGEBYLEX', key, from, '(c!', 'LIMIT', 0, limit)) do
    found[#found + 1] = {instance, member}
  end
end
return found
