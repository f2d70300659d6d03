-- name: AuditInsert
INSERT INTO audit_logs (tenant_id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id, request_id)
VALUES (@tenant_id, @actor_user_id, @actor_role, @action, @target_type, @target_id, @result, @details, @correlation_id, @request_id);

-- name: AuditOfRequest
SELECT details, created_at FROM audit_logs WHERE request_id = @request_id;

-- name: AuditRefused
SELECT EXISTS (
  SELECT FROM audit_logs WHERE target_type = @target_type AND target_id = @target_id AND action = @action AND result = 'refused'
) AS refused;
