-- name: BudgetNewest
-- The newest budget of each project of a tenant, or of one; without those that were ended.
SELECT project_id, version, amount_micros, period, warning_percent, created_at FROM (
  SELECT DISTINCT ON (project_id) project_id, version, amount_micros, period, warning_percent, created_at FROM project_budgets
  WHERE tenant_id = @tenant_id AND (@project_id::text IS NULL OR project_id = @project_id)
  ORDER BY project_id, version DESC
) AS newest WHERE amount_micros IS NOT NULL ORDER BY project_id;

-- name: BudgetInsert
-- The next version; two at once meet the key, and one is made again.
INSERT INTO project_budgets (tenant_id, project_id, version, amount_micros, period, warning_percent, actor_user_id)
SELECT @tenant_id, @project_id, coalesce(max(version), 0) + 1, @amount_micros, @period, @warning_percent, @actor_user_id
FROM project_budgets WHERE tenant_id = @tenant_id AND project_id = @project_id;

-- name: AllocationsMeteredInProject
-- Every meter of a project that ran at or after an instant, whether it has ended or not.
SELECT id, rate_micros_per_hour, metered_from, coalesce(metered_to, suspended_at) AS metered_to
FROM allocations
WHERE tenant_id = @tenant_id AND project_id = @project_id AND metered_from IS NOT NULL AND rate_micros_per_hour > 0
  AND (metered_to IS NULL OR metered_to > @since::timestamptz);

-- name: LedgerForgivenOfMany
SELECT allocation_id, period_start, period_end FROM ledger_entries
WHERE kind IN ('outage_credit', 'suspension_credit') AND kind <> 'usage' AND allocation_id = ANY (@allocation_ids::text[]) AND allocation_id IS NOT NULL
ORDER BY id;

-- name: BudgetCrossingInsert
INSERT INTO budget_crossings (tenant_id, project_id, version, period_start, rung, at, spent_micros, correlation_id)
VALUES (@tenant_id, @project_id, @version, @period_start, @rung, @at, @spent_micros, @correlation_id)
ON CONFLICT (project_id, version, period_start, rung) DO NOTHING;
