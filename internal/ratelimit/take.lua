-- Takes one request out of a bucket, by GCRA: the key holds the instant (microseconds) at which the bucket is full again. The clock
-- is Redis's own, so that those of the replicas do not matter. How full a bucket is does not depend on its limit: a changed
-- limit counts from the next request on.
-- ARGV[1]: requests that a full bucket allows; ARGV[2]: microseconds in which an empty one fills.
-- Answers: 1 if allowed, what remains, microseconds until one more is allowed, microseconds until the bucket is full.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = math.floor(window / limit)
local depth = each * limit
local used = (tonumber(redis.call('GET', KEYS[1])) or now) - now
-- A server whose clock was set back, or a smaller window, must not lock anybody out for longer than a window.
if used < 0 then used = 0 elseif used > depth then used = depth end
local allowed = 0
if used + each <= depth then
  allowed = 1
  used = used + each
  redis.call('SET', KEYS[1], string.format('%.0f', now + used), 'PX', math.ceil(used / 1000))
end
local wait = 0
if used + each > depth then wait = used + each - depth end
return {allowed, math.floor((depth - used) / each), wait, used}
