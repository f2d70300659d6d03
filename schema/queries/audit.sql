-- name: AuditInsert
INSERT INTO audit_logs (tenant_id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id)
VALUES (@tenant_id, @actor_user_id, @actor_role, @action, @target_type, @target_id, @result, @details, @correlation_id);
