-- What every script begins with: whole numbers, keys, the clock, and what one period holds.

-- Lua's numbers are doubles, exact up to 2^53. A number of units is {high, low} with the value high * 10^9 + low, 0 <= low < 10^9,
-- and in texts it is decimal.
local BASE = 1000000000

local function norm(high, low)
  local carry = math.floor(low / BASE)
  return {high + carry, low - carry * BASE}
end

local function units(text)
  local negative = text:sub(1, 1) == '-'
  if negative then text = text:sub(2) end
  local high, low = tonumber(text:sub(1, -10)) or 0, tonumber(text:sub(-9))
  if negative then return norm(-high, -low) end
  return {high, low}
end

local function text(n)
  local sign = ''
  if n[1] < 0 then
    sign, n = '-', norm(-n[1], -n[2])
  end
  if n[1] == 0 then return sign .. string.format('%.0f', n[2]) end
  return sign .. string.format('%.0f%09.0f', n[1], n[2])
end

local ZERO = {0, 0}
local function add(a, b) return norm(a[1] + b[1], a[2] + b[2]) end
local function sub(a, b) return norm(a[1] - b[1], a[2] - b[2]) end
local function less(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end
local function max(a, b) if less(a, b) then return b end return a end
local function min(a, b) if less(b, a) then return b end return a end

-- What is kept is no larger than elsewhere.
local MOST, LEAST = units('9223372036854775807'), units('-9223372036854775808')

-- A tenant's keys; what is in braces keeps them together.
local PREFIX = KEYS[1]
local TOUCHED = PREFIX .. 'touched' -- counter by when it was touched, in milliseconds
local NEWEST = PREFIX .. 'newest'   -- counter -> the start of its newest period
local PERIODS = PREFIX .. 'periods' -- 'COUNTER START' by -START, so that the newest come first, and equal ones by their counters
local FOLDS = PREFIX .. 'folds'     -- 'COUNTER START' by when its leases go, in seconds
local EXPIRES = PREFIX .. 'expires' -- 'COUNTER START' by when it goes itself

local function whole(n) return string.format('%.0f', n) end
local function member_of(counter, start) return counter .. ' ' .. whole(start) end
local function key_of(member) return PREFIX .. 'period:' .. member end

-- Milliseconds since 1970, of this clock and so many ahead of it.
local function clock(ahead)
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ahead)
end

-- The period that lasts: that of the clock, or the newest one, since time never goes back.
local function lasting(counter, start, stop)
  local newest = tonumber(redis.call('HGET', NEWEST, counter) or '')
  if newest and newest > start then
    local known = redis.call('HGET', key_of(member_of(counter, newest)), 'end')
    if known then return newest, tonumber(known) end
  end
  return start, stop
end

-- A lease as it is kept: 'USED GRANTED SEQUENCE SEEN'.
local function row_of(value)
  local used, granted, sequence, seen = value:match('^(%d+) (%d+) (%d+) (-?%d+)$')
  return {used = units(used), granted = units(granted), sequence = units(sequence), seen = tonumber(seen)}
end

local function row_text(row)
  return table.concat({text(row.used), text(row.granted), text(row.sequence), whole(row.seen)}, ' ')
end

local function add_row(sums, row, silent_before)
  sums.used = add(sums.used, row.used)
  sums.allocated = add(sums.allocated, row.granted)
  if row.seen < silent_before then
    sums.abandoned = add(sums.abandoned, sub(row.granted, row.used))
  else
    sums.live = sums.live + 1
  end
end

-- What all proxies but one have in a period, and that one's row if it has one. A proxy's field is '@PROXY'.
local function load(key, but, silent_before)
  local sums = {used = ZERO, allocated = ZERO, abandoned = ZERO, live = 0, proxies = 0}
  local base, folded_used, folded_granted = ZERO, ZERO, ZERO
  local own
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local field, value = all[at], all[at + 1]
    if field == 'base' then base = units(value)
    elseif field == 'folded_used' then folded_used = units(value)
    elseif field == 'folded_granted' then folded_granted = units(value)
    elseif field:sub(1, 1) == '@' then
      local row = row_of(value)
      sums.proxies = sums.proxies + 1
      if field == but then
        own = row
      else
        add_row(sums, row, silent_before)
      end
      if not sums.silent or row.seen < sums.silent.row.seen then sums.silent = {field = field, row = row} end
    end
  end
  sums.used = add(sums.used, add(base, folded_used))
  sums.allocated = add(sums.allocated, add(base, folded_granted))
  sums.abandoned = add(sums.abandoned, sub(folded_granted, folded_used))
  return sums, own
end

-- Keeps of a few leases only what they came to.
local function fold(key, fields)
  local used = units(redis.call('HGET', key, 'folded_used') or '0')
  local granted = units(redis.call('HGET', key, 'folded_granted') or '0')
  for _, field in ipairs(fields) do
    local row = row_of(redis.call('HGET', key, field))
    used, granted = min(add(used, row.used), MOST), min(add(granted, row.granted), MOST)
    redis.call('HDEL', key, field)
  end
  redis.call('HSET', key, 'folded_used', text(used), 'folded_granted', text(granted))
end

-- Clears away a few of the tenant's leases and periods that have been over for long enough: more than a new period adds.
local function tidy(second)
  local due = redis.call('ZRANGEBYSCORE', FOLDS, '-inf', whole(second), 'LIMIT', 0, 4)
  for _, member in ipairs(due) do
    local key, leases = key_of(member), {}
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if field:sub(1, 1) == '@' then leases[#leases + 1] = field end
    end
    if #leases > 0 then fold(key, leases) end
    redis.call('ZREM', FOLDS, member)
  end
  due = redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', whole(second), 'LIMIT', 0, 4)
  for _, member in ipairs(due) do
    local counter, start = member:match('^(.*) (%d+)$')
    redis.call('DEL', key_of(member))
    for _, set in ipairs({PERIODS, FOLDS, EXPIRES}) do redis.call('ZREM', set, member) end
    if redis.call('HGET', NEWEST, counter) == start then
      redis.call('HDEL', NEWEST, counter)
      redis.call('ZREM', TOUCHED, counter)
    end
  end
end

-- The key of a period, which is there after this.
local function begin(counter, start, stop, leases_kept, totals_kept, second)
  local member = member_of(counter, start)
  local key = key_of(member)
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'end', whole(stop))
    -- Also where nobody comes any more to clear it away.
    redis.call('EXPIRE', key, whole(math.max(stop + totals_kept - second, 1)))
    redis.call('ZADD', PERIODS, whole(-start), member)
    redis.call('ZADD', FOLDS, whole(stop + leases_kept), member)
    redis.call('ZADD', EXPIRES, whole(stop + totals_kept), member)
    local newest = tonumber(redis.call('HGET', NEWEST, counter) or '')
    if not newest or newest < start then redis.call('HSET', NEWEST, counter, whole(start)) end
    tidy(second)
  end
  return key
end
