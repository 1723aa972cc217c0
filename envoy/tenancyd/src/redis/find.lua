-- The counter that is meant, of several the one that was touched last.
local quota, kind, zone = unpack(ARGV)
for _, counter in ipairs(redis.call('ZREVRANGE', TOUCHED, 0, -1)) do
  local of_quota, of_kind, in_zone = counter:match('^(%S+) (%S+) (%S*)$')
  if of_quota == quota and (kind == '' or of_kind == kind) and (zone == '' or in_zone == zone) then
    return {of_kind, in_zone}
  end
end
return {}
