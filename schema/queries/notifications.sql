-- name: NotificationLock
-- Held until the transaction ends: ids are given, and become visible, in one order.
SELECT pg_advisory_xact_lock(hashtext('notifications'));

-- name: NotificationInsert
INSERT INTO notifications (tenant_id, event_id, event_type, audience, project_id, user_id, event)
VALUES (@tenant_id, @event_id, @event_type, @audience, @project_id, @user_id, @event)
ON CONFLICT (event_id) DO NOTHING;

-- name: NotificationsBefore
-- Newest first, what somebody may see in the tenants they belong to, and of the platform where they operate it.
SELECT n.id, coalesce(n.tenant_id, '') AS tenant_id, n.event_id::text AS event_id, n.event_type, n.event, n.created_at, seen.read_at
FROM notifications AS n LEFT JOIN notification_reads AS seen ON seen.notification_id = n.id AND seen.user_id = @user_id
WHERE n.id < @before_id AND (NOT @unread::boolean OR seen.read_at IS NULL)
  AND (n.audience = 'operators' AND @operator::boolean
    OR n.tenant_id = ANY (@tenant_ids::text[]) AND (n.user_id = @owner_id
      OR n.audience = 'members' AND (n.tenant_id = ANY (@member_tenants::text[]) OR n.project_id = ANY (@member_projects::text[]))
      OR n.audience = 'billing' AND n.tenant_id = ANY (@billing_tenants::text[])))
ORDER BY n.id DESC LIMIT @limit;

-- name: NotificationsAfter
-- The same, oldest first, behind one of them.
SELECT n.id, coalesce(n.tenant_id, '') AS tenant_id, n.event_id::text AS event_id, n.event_type, n.event, n.created_at, seen.read_at
FROM notifications AS n LEFT JOIN notification_reads AS seen ON seen.notification_id = n.id AND seen.user_id = @user_id
WHERE n.id > @after_id AND (NOT @unread::boolean OR seen.read_at IS NULL)
  AND (n.audience = 'operators' AND @operator::boolean
    OR n.tenant_id = ANY (@tenant_ids::text[]) AND (n.user_id = @owner_id
      OR n.audience = 'members' AND (n.tenant_id = ANY (@member_tenants::text[]) OR n.project_id = ANY (@member_projects::text[]))
      OR n.audience = 'billing' AND n.tenant_id = ANY (@billing_tenants::text[])))
ORDER BY n.id LIMIT @limit;

-- name: NotificationNewest
SELECT coalesce(max(id), 0)::bigint AS id FROM notifications WHERE tenant_id = ANY (@tenant_ids::text[]) OR audience = 'operators' AND @operator::boolean;

-- name: NotificationOfEvent
SELECT id FROM notifications
WHERE event_id = @event_id AND (tenant_id = ANY (@tenant_ids::text[]) OR audience = 'operators' AND @operator::boolean);

-- name: NotificationsRead
-- Marks what somebody may see; what is marked stays as it is.
INSERT INTO notification_reads (user_id, notification_id)
SELECT @user_id, n.id FROM notifications AS n
WHERE n.event_id = ANY (@event_ids::uuid[])
  AND (n.audience = 'operators' AND @operator::boolean
    OR n.tenant_id = ANY (@tenant_ids::text[]) AND (n.user_id = @owner_id
      OR n.audience = 'members' AND (n.tenant_id = ANY (@member_tenants::text[]) OR n.project_id = ANY (@member_projects::text[]))
      OR n.audience = 'billing' AND n.tenant_id = ANY (@billing_tenants::text[])))
ON CONFLICT DO NOTHING;

-- name: NotificationsPurge
DELETE FROM notifications WHERE id IN (SELECT id FROM notifications WHERE created_at < now() - @keep::interval LIMIT @limit);
