-- name: OutboxInsert
INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload)
VALUES (@stream, @subject, @msg_id, @aggregate_id, @payload);

-- name: OutboxMakePartitions
SELECT outbox_make_partitions((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + @days::integer) AS made;
