-- name: OutboxLead
-- Begins an epoch, if nobody leads.
UPDATE outbox_relay SET epoch = epoch + 1, leader = @leader, leads_until = clock_timestamp() + @lease::interval
WHERE leads_until < clock_timestamp()
RETURNING epoch, cursor_id;

-- name: OutboxKeepLead
UPDATE outbox_relay SET leads_until = clock_timestamp() + @lease::interval WHERE epoch = @epoch;

-- name: OutboxResign
UPDATE outbox_relay SET leads_until = to_timestamp(0) WHERE epoch = @epoch;

-- name: OutboxRead
-- What follows the cursor and is final, in the order of its ids.
SELECT id, stream, subject, msg_id, aggregate_id, payload, created_at FROM outbox
WHERE id > @after_id AND id <= (SELECT coalesce(max(sealed_id), 0) FROM seals WHERE relation = 'outbox')
ORDER BY id LIMIT @limit;

-- name: OutboxMoveCursor
-- Whoever was deposed, or finds the cursor elsewhere, moves nothing. Nobody waits until the disk has it, nor do the writers of events behind
-- it: a crash that throws the cursor back has the same rows published again, which streams take once.
UPDATE outbox_relay SET cursor_id = @to_id, moved_at = clock_timestamp(), leads_until = clock_timestamp() + @lease::interval
FROM (SELECT set_config('synchronous_commit', 'off', true) AS waits) AS commit
WHERE epoch = @epoch AND cursor_id = @from_id AND commit.waits = 'off';

-- name: OutboxRelay
SELECT cursor_id, epoch, leader, leads_until, moved_at, clock_timestamp() AS now,
  (SELECT coalesce(max(sealed_id), 0) FROM seals WHERE relation = 'outbox') AS sealed_id
FROM outbox_relay;

-- name: OutboxRelayLock
SELECT cursor_id, epoch, leader, leads_until, moved_at, clock_timestamp() AS now,
  (SELECT coalesce(max(sealed_id), 0) FROM seals WHERE relation = 'outbox') AS sealed_id
FROM outbox_relay FOR NO KEY UPDATE;

-- name: OutboxPending
-- What waits behind the cursor: how much, counted up to a limit, and since when.
SELECT count(*) AS events, min(created_at) AS since FROM (SELECT created_at FROM outbox WHERE id > @after_id ORDER BY id LIMIT @limit) AS pending;

-- name: OutboxBefore
-- The id below the first row that was written at or after an instant, among those up to the cursor; none where there is no such row.
SELECT id - 1 AS id FROM outbox WHERE created_at >= @since AND id <= @up_to_id ORDER BY id LIMIT 1;

-- name: OutboxRewind
-- A new epoch: whoever leads is deposed, and the next leader begins here.
UPDATE outbox_relay SET cursor_id = @to_id, epoch = epoch + 1, leader = '', leads_until = to_timestamp(0), moved_at = clock_timestamp();

-- name: OutboxDropPartitions
SELECT outbox_drop_partitions(@keep::interval) AS dropped;
