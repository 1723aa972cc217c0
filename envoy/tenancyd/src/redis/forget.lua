-- Forgets all that a tenant has used.
for _, member in ipairs(redis.call('ZRANGE', PERIODS, 0, -1)) do
  redis.call('UNLINK', key_of(member))
end
redis.call('UNLINK', TOUCHED, NEWEST, PERIODS, FOLDS, EXPIRES)
return {'ok'}
