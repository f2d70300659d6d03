-- name: InboxInsert
INSERT INTO inbox (consumer, event_id) VALUES (@consumer, @event_id) ON CONFLICT DO NOTHING;

-- name: InboxFailed
INSERT INTO inbox_failures AS failure (consumer, message, attempts, reason) VALUES (@consumer, @message, 1, @reason)
ON CONFLICT (consumer, message) DO UPDATE SET attempts = failure.attempts + 1, reason = EXCLUDED.reason, failed_at = now()
RETURNING attempts;

-- name: InboxForgive
DELETE FROM inbox_failures WHERE consumer = @consumer AND message = @message;

-- name: InboxPurge
DELETE FROM inbox WHERE (consumer, event_id) IN (
  SELECT consumer, event_id FROM inbox WHERE applied_at < now() - @keep::interval LIMIT @limit);

-- name: InboxFailuresPurge
DELETE FROM inbox_failures WHERE failed_at < now() - @keep::interval;
