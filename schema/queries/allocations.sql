-- name: AllocationInsert
INSERT INTO allocations (id, tenant_id, project_id, user_id, account_id, currency, name, labels, ssh_keys, sku_id, price_id,
  rate_micros_per_hour, window_seconds, windows_per_settlement, max_spend_micros, max_duration_seconds, runtime_mode, isolation_model, state,
  version, node_id, generation, username, correlation_id, owner_run_id, created_at, updated_at)
VALUES (@id, @tenant_id, @project_id, @user_id, @account_id, @currency, @name, @labels, @ssh_keys, @sku_id, @price_id,
  @rate_micros_per_hour, @window_seconds, @windows_per_settlement, @max_spend_micros, @max_duration_seconds, @runtime_mode, @isolation_model, 'requested', 1, @node_id, @generation,
  @username, @correlation_id, @owner_run_id, @created_at, @created_at);

-- name: AllocationExists
SELECT EXISTS (SELECT FROM allocations WHERE id = @id AND tenant_id = @tenant_id) AS exists;

-- name: AllocationGet
SELECT id, tenant_id, project_id, user_id, account_id, currency, name, labels, ssh_keys, sku_id, price_id, rate_micros_per_hour,
  window_seconds, windows_per_settlement, max_spend_micros, max_duration_seconds, runtime_mode, isolation_model, state, version, node_id, generation, username, ssh_host, ssh_port,
  ssh_host_key, metered_from, metered_to, suspended_at, release_cause, failure_code, failure_message, certificate, correlation_id, owner_run_id,
  created_at, updated_at, ended_at
FROM allocations
WHERE id = @id AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id);

-- name: AllocationList
SELECT id, tenant_id, project_id, user_id, account_id, currency, name, labels, ssh_keys, sku_id, price_id, rate_micros_per_hour,
  window_seconds, windows_per_settlement, max_spend_micros, max_duration_seconds, runtime_mode, isolation_model, state, version, node_id, generation, username, ssh_host, ssh_port,
  ssh_host_key, metered_from, metered_to, suspended_at, release_cause, failure_code, failure_message, certificate, correlation_id, owner_run_id,
  created_at, updated_at, ended_at
FROM allocations
WHERE (@tenant_id::text IS NULL OR tenant_id = @tenant_id)
  AND (@user_id::text IS NULL OR user_id = @user_id)
  AND (@project_id::text IS NULL OR project_id = @project_id)
  AND (@states::text[] IS NULL OR state = ANY (@states::text[]))
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: AllocationCountAgainstLimit
SELECT count(*) AS held
FROM allocations
WHERE tenant_id = @tenant_id AND user_id = @user_id AND state NOT IN ('released', 'failed', 'release_failed');

-- name: AllocationCountOfTenant
SELECT count(*) AS held
FROM allocations
WHERE tenant_id = @tenant_id AND state NOT IN ('released', 'failed', 'release_failed');

-- name: AllocationRunningByAccount
-- A meter that a suspension stopped has its end there for now.
SELECT id, state, rate_micros_per_hour, metered_from, coalesce(metered_to, suspended_at) AS metered_to
FROM allocations
WHERE tenant_id = @tenant_id AND account_id = @account_id AND state NOT IN ('released', 'failed');

-- name: AllocationLock
SELECT state, version, sku_id, node_id, generation
FROM allocations
WHERE id = @id AND tenant_id = @tenant_id
FOR NO KEY UPDATE;

-- name: AllocationSetNode
UPDATE allocations
SET node_id = @node_id, generation = @generation, username = @username, updated_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id;

-- name: AllocationTransition
UPDATE allocations
SET state = @to_state, version = version + 1, updated_at = @at,
    metered_from = COALESCE(metered_from, @metered_from::timestamptz),
    metered_to = COALESCE(metered_to, @metered_to::timestamptz),
    suspended_at = CASE WHEN @to_state::text = 'active' THEN suspended_at END,
    release_cause = COALESCE(@release_cause::text, release_cause),
    failure_code = COALESCE(@failure_code::text, failure_code),
    failure_message = COALESCE(@failure_message::text, failure_message),
    username = COALESCE(@username::text, username),
    ssh_host = COALESCE(@ssh_host::text, ssh_host),
    ssh_port = COALESCE(@ssh_port::integer, ssh_port),
    ssh_host_key = COALESCE(@ssh_host_key::text, ssh_host_key),
    node_id = COALESCE(@node_id::text, node_id),
    generation = COALESCE(@generation::bigint, generation),
    certificate = COALESCE(@certificate::jsonb, certificate),
    ended_at = CASE WHEN @to_state::text IN ('released', 'failed') THEN @at::timestamptz END
WHERE id = @id AND tenant_id = @tenant_id AND version = @version AND state = @from_state
RETURNING version, account_id, user_id, project_id, sku_id, node_id, metered_from, metered_to, name;

-- name: AllocationSuspend
-- A suspension begins once, whenever a step that was given up arrives after all.
UPDATE allocations SET suspended_at = @since, suspended_last = @since, updated_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id AND state = 'active' AND suspended_at IS NULL AND (suspended_last IS NULL OR suspended_last < @since);

-- name: AllocationResume
UPDATE allocations SET suspended_at = NULL, updated_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id AND state = 'active' AND suspended_at = @since;

-- name: AllocationsUnder
-- What a subject holds, a page by id: everything of a tenant, or what a user asked for in any tenant.
SELECT id FROM allocations
WHERE (tenant_id = @tenant_id OR user_id = @user_id) AND state NOT IN ('released', 'failed') AND id > @after
ORDER BY id LIMIT @limit;

-- name: AllocationsSuspendedUnder
-- Of what a user asked for in any tenant.
SELECT EXISTS (SELECT FROM allocations WHERE user_id = @user_id AND suspended_at IS NOT NULL) AS suspended;

-- name: AllocationTransitionInsert
INSERT INTO allocation_transitions (allocation_id, tenant_id, version, from_state, to_state, at, actor_id, actor_role, reason, node_id, correlation_id)
VALUES (@allocation_id, @tenant_id, @version, @from_state, @to_state, @at, @actor_id, @actor_role, @reason, @node_id, @correlation_id);

-- name: AllocationTransitionGet
SELECT version, from_state, to_state, at, actor_id, actor_role, reason, node_id, correlation_id
FROM allocation_transitions
WHERE allocation_id = @allocation_id AND tenant_id = @tenant_id AND version = @version;

-- name: AllocationTransitionList
SELECT version, from_state, to_state, at, actor_id, actor_role, reason, node_id, correlation_id
FROM allocation_transitions
WHERE allocation_id = @allocation_id AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id)
ORDER BY version;
