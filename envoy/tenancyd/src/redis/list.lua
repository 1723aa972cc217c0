-- A page of what a tenant has used.
local after_start, after_counter, limit, silence, ahead = unpack(ARGV)
local max_rows = tonumber(ARGV[6])
local silent_before = clock(ahead) - tonumber(silence)
local from, offset, page, rows = '-inf', 0, {}, 0
if after_start ~= '' then from = '-' .. after_start end
while true do
  local found = redis.call('ZRANGEBYSCORE', PERIODS, from, '+inf', 'LIMIT', offset, 100)
  for _, member in ipairs(found) do
    local counter, start = member:match('^(.*) (%d+)$')
    if start ~= after_start or counter > after_counter then
      local key = key_of(member)
      local stop = redis.call('HGET', key, 'end')
      -- It is gone once it expired.
      if stop then
        if #page >= tonumber(limit) or rows > max_rows then return {page, 'more'} end
        local sums = load(key, nil, silent_before)
        rows = rows + sums.proxies
        page[#page + 1] = {counter, start, stop, text(sums.used), text(sub(sums.allocated, sums.used)), text(sums.abandoned)}
      end
    end
  end
  if #found < 100 then return {page, 'end'} end
  offset = offset + 100
end
