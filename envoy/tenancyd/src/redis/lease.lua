-- A proxy's message; the rules are those of lease.rs.
local counter, proxy, clock_start, clock_end, named_start, named_end = unpack(ARGV, 1, 6)
local sequence, limit, used, up_to = units(ARGV[7]), units(ARGV[8]), units(ARGV[9]), units(ARGV[10])
local period_start = tonumber(ARGV[11])
local leases_kept, totals_kept, silence = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local max_counters, max_proxies, remembered, max_behind = unpack(ARGV, 16, 19)
clock_start, clock_end = tonumber(clock_start), tonumber(clock_end)
max_proxies, remembered = tonumber(max_proxies), tonumber(remembered)

local now = clock(ARGV[15])
local second = math.floor(now / 1000)
if second < clock_start or second >= clock_end then return {'clock', whole(now)} end

local start, stop = lasting(counter, clock_start, clock_end)
local late = false
local late_start, late_end
if period_start then
  local known = redis.call('HGET', key_of(member_of(counter, period_start)), 'end')
  if known then
    named_start, named_end = period_start, tonumber(known)
  elseif period_start > second + tonumber(max_behind) then
    return {'refused', 'ahead'}
  else
    named_start, named_end = tonumber(named_start), tonumber(named_end)
  end
  if named_start > start then
    start, stop = named_start, named_end
  elseif named_start < start then
    late, late_start, late_end = true, named_start, named_end
  end
end

-- All that may refuse comes before the first write: there is no way back.
if not redis.call('ZSCORE', TOUCHED, counter) and redis.call('ZCARD', TOUCHED) >= tonumber(max_counters) then
  return {'refused', 'counters'}
end
local field = '@' .. proxy
local silent_before = now - silence
local function crowded(sums, own) return not own and sums.proxies >= max_proxies end
local function full(sums, own) return crowded(sums, own) and sums.silent.row.seen > now - remembered end
local sums, own = load(key_of(member_of(counter, start)), field, silent_before)
if full(sums, own) then return {'refused', 'proxies'} end
local late_sums, late_own
if late and second < late_end + leases_kept then
  late_sums, late_own = load(key_of(member_of(counter, late_start)), field, silent_before)
  if full(late_sums, late_own) then return {'refused', 'proxies'} end
end

-- A delayed or repeated message must never undo a later one.
local function is_news(row)
  if not less(row.sequence, sequence) then return false end
  row.sequence, row.seen = sequence, now
  return true
end
local function report(row)
  row.used = max(row.used, used)
  row.granted = max(row.granted, row.used)
end
local function share(left, proxies)
  local parts = proxies * 2
  local high = math.floor(left[1] / parts)
  return norm(high, math.floor(((left[1] - high * parts) * BASE + left[2] + parts - 1) / parts))
end
local function save(key, known, row, crowd)
  if crowded(crowd, known) then fold(key, {crowd.silent.field}) end
  redis.call('HSET', key, field, row_text(row))
end
local function new() return {used = ZERO, granted = ZERO, sequence = ZERO, seen = 0} end

redis.call('ZADD', TOUCHED, whole(now), counter)
local key = begin(counter, start, stop, leases_kept, totals_kept, second)
if late_sums then
  local late_key = begin(counter, late_start, late_end, leases_kept, totals_kept, second)
  local row = late_own or new()
  if is_news(row) then
    report(row)
    row.granted = row.used
  end
  save(late_key, late_own, row, late_sums)
end

local row = own or new()
local outcome, grant = 'settled', ZERO
if is_news(row) then
  local wish = up_to
  if late then
    wish = max(sub(up_to, used), ZERO)
  else
    report(row)
    if less(up_to, row.granted) then row.granted = max(up_to, row.used) end
  end
  local wanted = sub(wish, row.granted)
  if less(ZERO, wanted) then
    local left = max(sub(limit, add(sums.allocated, row.granted)), ZERO)
    grant = min(wanted, share(left, sums.live + 1))
    outcome = less(ZERO, grant) and 'granted' or 'refused'
    row.granted = add(row.granted, grant)
  end
end
save(key, own, row, sums)
add_row(sums, row, silent_before)
return {'ok', whole(start), whole(stop), whole(now), text(row.granted), text(sums.used), text(sub(sums.allocated, sums.used)),
  outcome, text(grant)}
