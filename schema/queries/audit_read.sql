-- name: AuditPage
SELECT id, coalesce(tenant_id, '') AS tenant_id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id, created_at
FROM audit_logs
WHERE (@tenant_id::text IS NULL OR tenant_id = @tenant_id)
  AND (@actor_user_id::text IS NULL OR actor_user_id = @actor_user_id)
  AND (@action::text IS NULL OR action = @action)
  AND (@target_type::text IS NULL OR target_type = @target_type)
  AND (@target_id::text IS NULL OR target_id = @target_id)
  AND (@result::text IS NULL OR result = @result)
  AND (@since::timestamptz IS NULL OR created_at >= @since)
  AND (@until::timestamptz IS NULL OR created_at < @until)
  AND (@before_id::bigint IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::bigint))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: AuditOfTarget
SELECT id, coalesce(tenant_id, '') AS tenant_id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id, created_at
FROM audit_logs
WHERE target_type = @target_type AND target_id = @target_id AND tenant_id = @tenant_id
ORDER BY id;
