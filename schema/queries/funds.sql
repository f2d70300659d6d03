-- name: AllocationsCostMoney
SELECT EXISTS (
  SELECT FROM allocations
  WHERE tenant_id = @tenant_id AND account_id = @account_id AND state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0
) AS costs;
