-- name: AccountPlatform
SELECT id FROM accounts WHERE kind = @kind AND currency = @currency AND tenant_id IS NULL;

-- name: LedgerBalance
-- One sum over the newest checkpoint and the entries after it on either side. A tail is read by (account, id) alone: the
-- schema tells the planner that an account has few entries (n_distinct), and the subselects keep it from guessing about
-- this one, so that one plan serves all.
WITH newest AS MATERIALIZED (
  SELECT up_to_id, balance_micros FROM ledger_checkpoints WHERE account_id = @account_id ORDER BY up_to_id DESC LIMIT 1
)
SELECT coalesce(sum(part.micros), 0)::bigint AS balance_micros
FROM (
  SELECT balance_micros AS micros FROM newest
  UNION ALL
  SELECT amount_micros FROM ledger_entries
  WHERE credit_account_id = (SELECT @account_id::text) AND id > coalesce((SELECT up_to_id FROM newest), 0)
  UNION ALL
  SELECT -amount_micros FROM ledger_entries
  WHERE debit_account_id = (SELECT @account_id::text) AND id > coalesce((SELECT up_to_id FROM newest), 0)
) AS part;

-- name: LedgerTenantBalance
SELECT owned.currency, (coalesce(checkpoint.balance_micros, 0) + coalesce(tail.micros, 0))::bigint AS balance_micros
FROM (SELECT id, currency FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id OFFSET 0) AS owned
LEFT JOIN LATERAL (
  SELECT up_to_id, balance_micros FROM ledger_checkpoints WHERE account_id = owned.id ORDER BY up_to_id DESC LIMIT 1
) AS checkpoint ON true,
LATERAL (
  SELECT sum(part.micros) AS micros FROM (
    SELECT amount_micros AS micros FROM ledger_entries
    WHERE credit_account_id = owned.id AND id > coalesce(checkpoint.up_to_id, 0)
    UNION ALL
    SELECT -amount_micros FROM ledger_entries
    WHERE debit_account_id = owned.id AND id > coalesce(checkpoint.up_to_id, 0)
  ) AS part
) AS tail;

-- name: LedgerLastPostedEnds
SELECT wanted.id AS allocation_id, (
  SELECT max(usage_end) FROM ledger_entries WHERE usage_allocation_id = wanted.id
) AS posted_to, EXISTS (
  SELECT FROM ledger_settlements WHERE ledger_settlements.allocation_id = wanted.id
) AS settled
FROM unnest(@allocation_ids::text[]) AS wanted (id);

-- name: MetersRunning
-- Every meter of an account that may not be settled yet. One that a suspension stopped has its end there for now.
SELECT id AS allocation_id, rate_micros_per_hour, metered_from, coalesce(metered_to, suspended_at) AS metered_to
FROM allocations
WHERE account_id = @account_id AND tenant_id = @tenant_id AND metered_from IS NOT NULL AND state NOT IN ('released', 'failed');

-- name: LedgerEntries
SELECT id, kind, currency, amount_micros, coalesce(allocation_id, '') AS allocation_id, period_start, period_end,
  idempotency_key, reverses_id, created_at
FROM (
  (SELECT id, kind, currency, -amount_micros AS amount_micros, allocation_id, period_start, period_end, idempotency_key, reverses_id, created_at
   FROM ledger_entries
   WHERE debit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id < @before_id AND id > @after_id
     AND (@since::timestamptz IS NULL OR created_at >= @since) AND (@until::timestamptz IS NULL OR created_at < @until)
   ORDER BY id DESC LIMIT @row_limit)
  UNION ALL
  (SELECT id, kind, currency, amount_micros, allocation_id, period_start, period_end, idempotency_key, reverses_id, created_at
   FROM ledger_entries
   WHERE credit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id < @before_id AND id > @after_id
     AND (@since::timestamptz IS NULL OR created_at >= @since) AND (@until::timestamptz IS NULL OR created_at < @until)
   ORDER BY id DESC LIMIT @row_limit)
) AS entry
ORDER BY id DESC LIMIT @row_limit;

-- name: LedgerEntriesOfAllocation
SELECT id, kind, currency, CASE WHEN debit_account_id = @account_id THEN -amount_micros ELSE amount_micros END AS amount_micros,
  coalesce(allocation_id, '') AS allocation_id, period_start, period_end, idempotency_key, reverses_id, created_at
FROM (
  SELECT * FROM ledger_entries WHERE kind = 'usage' AND allocation_id = @allocation_id
  UNION ALL
  SELECT * FROM ledger_entries WHERE kind <> 'usage' AND allocation_id = @allocation_id
) AS entry
WHERE (debit_account_id = @account_id OR credit_account_id = @account_id)
  AND EXISTS (SELECT FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id < @before_id AND id > @after_id
  AND (@since::timestamptz IS NULL OR created_at >= @since) AND (@until::timestamptz IS NULL OR created_at < @until)
ORDER BY id DESC LIMIT @row_limit;

-- name: LedgerAllocationTotals
SELECT coalesce(sum(amount_micros) FILTER (WHERE kind = 'usage'), 0)::bigint AS usage_micros,
  coalesce(sum(amount_micros) FILTER (WHERE kind <> 'usage'), 0)::bigint AS credit_micros,
  count(*) FILTER (WHERE kind = 'usage') AS windows, max(usage_end) AS posted_to
FROM (
  SELECT kind, amount_micros, usage_end FROM ledger_entries
  WHERE kind = 'usage' AND allocation_id = @allocation_id AND debit_account_id = @account_id
  UNION ALL
  SELECT kind, amount_micros, usage_end FROM ledger_entries
  WHERE kind <> 'usage' AND allocation_id = @allocation_id AND credit_account_id = @account_id
) AS entry
WHERE EXISTS (SELECT FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id);

-- name: TransactionID
SELECT pg_current_xact_id()::text;

-- name: LedgerPostUsage
-- The windows that arrived together, in one statement: what stands already is skipped and counted out, and each
-- account gets one outbox row that lists the new entries.
WITH posted AS (
  INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros,
    allocation_id, period_start, period_end, prev_end, idempotency_key)
  SELECT 'usage', @txn_id::uuid, w.account_id, @revenue_account_id::text, @currency::text, w.amount_micros,
    w.allocation_id, w.period_start, w.period_end, CASE WHEN NOT w.is_head THEN w.period_start END, w.idempotency_key
  FROM unnest(@allocation_ids::text[], @account_ids::text[], @amounts::bigint[], @period_starts::timestamptz[],
    @period_ends::timestamptz[], @heads::boolean[], @idempotency_keys::text[])
    AS w (allocation_id, account_id, amount_micros, period_start, period_end, is_head, idempotency_key)
  ON CONFLICT (allocation_id, period_start) WHERE kind = 'usage' DO NOTHING
  RETURNING id, debit_account_id, amount_micros
), announced AS (
  INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload)
  SELECT 'BILLING', 'billing.usage_recorded', e.event_id, e.account_id, jsonb_build_object(
    'event_id', e.event_id, 'event_type', 'billing.usage_recorded', 'occurred_at', @occurred_at::text, 'version', '1.0',
    'correlation_id', e.correlation_id, 'payload', jsonb_build_object(
      'tenant_id', e.tenant_id, 'account_id', e.account_id, 'currency', @currency::text,
      'amount_micros', recorded.amount_micros, 'entry_ids', recorded.entry_ids))
  FROM (
    SELECT debit_account_id, sum(amount_micros)::bigint AS amount_micros, jsonb_agg(id ORDER BY id) AS entry_ids
    FROM posted GROUP BY debit_account_id
  ) AS recorded
  JOIN unnest(@event_accounts::text[], @event_tenants::text[], @event_ids::text[], @event_correlations::text[])
    AS e (account_id, tenant_id, event_id, correlation_id) ON e.account_id = recorded.debit_account_id
)
SELECT count(*) AS inserted FROM posted;

-- name: LedgerUsageStanding
SELECT entry.allocation_id, entry.debit_account_id AS account_id, entry.amount_micros, entry.period_start, entry.period_end
FROM unnest(@allocation_ids::text[], @period_starts::timestamptz[]) AS w (allocation_id, period_start)
JOIN ledger_entries AS entry ON entry.kind = 'usage' AND entry.allocation_id = w.allocation_id AND entry.period_start = w.period_start;

-- name: LedgerCredit
-- One credit or debit that is not usage; nothing when its key was used before.
INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros,
  allocation_id, period_start, period_end, idempotency_key, reverses_id)
VALUES (@kind, @txn_id::uuid, @debit_account_id, @credit_account_id, @currency, @amount_micros,
  @allocation_id, @period_start, @period_end, @idempotency_key, @reverses_id)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id;

-- name: LedgerEntryByKey
SELECT id, kind, debit_account_id, credit_account_id, currency, amount_micros FROM ledger_entries WHERE idempotency_key = @idempotency_key;

-- name: LedgerUsageEndingAt
SELECT created_at FROM ledger_entries WHERE usage_allocation_id = @allocation_id AND usage_end = @usage_end;

-- name: LedgerSettlementInsert
INSERT INTO ledger_settlements (allocation_id, account_id, metered_to) VALUES (@allocation_id, @account_id, @metered_to)
ON CONFLICT (allocation_id) DO NOTHING;

-- name: LedgerSettlementGet
SELECT metered_to FROM ledger_settlements WHERE allocation_id = @allocation_id;

-- name: LedgerForgiven
-- What outages and suspensions gave back of an allocation's metered time.
SELECT amount_micros, period_start, period_end FROM ledger_entries
WHERE kind IN ('outage_credit', 'suspension_credit') AND allocation_id = @allocation_id AND allocation_id IS NOT NULL ORDER BY id;

-- name: SealObserve
-- The highest ids there are now, and the oldest transaction that still runs.
SELECT coalesce((SELECT max(id) FROM ledger_entries), 0) AS ledger_id, coalesce((SELECT max(id) FROM outbox), 0) AS outbox_id,
  pg_snapshot_xmin(pg_current_snapshot())::text AS oldest_running;

-- name: SealInsert
INSERT INTO seals (relation, sealed_id)
SELECT w.relation, w.sealed_id FROM unnest(@relations::text[], @sealed_ids::bigint[]) AS w (relation, sealed_id)
WHERE w.sealed_id > coalesce((SELECT max(s.sealed_id) FROM seals AS s WHERE s.relation = w.relation), 0)
ON CONFLICT DO NOTHING;

-- name: SealNewest
SELECT coalesce(max(sealed_id), 0) AS sealed_id FROM seals WHERE relation = @relation;

-- name: SealForget
DELETE FROM seals WHERE sealed_at < now() - interval '1 hour'
  AND sealed_id < (SELECT max(newest.sealed_id) FROM seals AS newest WHERE newest.relation = seals.relation);

-- name: LedgerTouched
-- How many entries each account got within sealed ids.
SELECT account_id, count(*) AS entries FROM (
  SELECT debit_account_id AS account_id FROM ledger_entries WHERE id > @after_id AND id <= @up_to_id
  UNION ALL
  SELECT credit_account_id FROM ledger_entries WHERE id > @after_id AND id <= @up_to_id
) AS side GROUP BY account_id;

-- name: LedgerTails
-- How many sealed entries each account has after its newest checkpoint.
SELECT accounts.id AS account_id, (
  (SELECT count(*) FROM (
      SELECT amount_micros FROM ledger_entries WHERE (debit_account_id, id) > (accounts.id, checkpoint.up_to_id) AND (debit_account_id, id) <= (accounts.id, @up_to_id)
      ORDER BY debit_account_id, id LIMIT (SELECT 4611686018427387904)) AS tail)
  + (SELECT count(*) FROM (
      SELECT amount_micros FROM ledger_entries WHERE (credit_account_id, id) > (accounts.id, checkpoint.up_to_id) AND (credit_account_id, id) <= (accounts.id, @up_to_id)
      ORDER BY credit_account_id, id LIMIT (SELECT 4611686018427387904)) AS tail)
) AS entries
FROM accounts, LATERAL (
  SELECT coalesce(max(up_to_id), 0) AS up_to_id FROM ledger_checkpoints WHERE account_id = accounts.id
) AS checkpoint;

-- name: LedgerCutCheckpoints
-- Each account's newest checkpoint and the sealed entries after it become its next checkpoint.
INSERT INTO ledger_checkpoints (account_id, up_to_id, balance_micros)
SELECT wanted.id, @up_to_id, newest.balance_micros
  + coalesce((SELECT sum(tail.amount_micros) FROM (
      SELECT amount_micros FROM ledger_entries WHERE (credit_account_id, id) > (wanted.id, newest.up_to_id) AND (credit_account_id, id) <= (wanted.id, @up_to_id)
      ORDER BY credit_account_id, id LIMIT (SELECT 4611686018427387904)) AS tail), 0)
  - coalesce((SELECT sum(tail.amount_micros) FROM (
      SELECT amount_micros FROM ledger_entries WHERE (debit_account_id, id) > (wanted.id, newest.up_to_id) AND (debit_account_id, id) <= (wanted.id, @up_to_id)
      ORDER BY debit_account_id, id LIMIT (SELECT 4611686018427387904)) AS tail), 0)
FROM unnest(@account_ids::text[]) AS wanted (id), LATERAL (
  SELECT coalesce(max(c.up_to_id), 0) AS up_to_id,
    coalesce((SELECT balance_micros FROM ledger_checkpoints WHERE account_id = wanted.id ORDER BY up_to_id DESC LIMIT 1), 0) AS balance_micros
  FROM ledger_checkpoints AS c WHERE c.account_id = wanted.id
) AS newest
WHERE newest.up_to_id < @up_to_id
ON CONFLICT DO NOTHING;

-- name: LedgerForgetCheckpoints
DELETE FROM ledger_checkpoints WHERE created_at < now() - interval '1 hour'
  AND up_to_id < (SELECT max(newest.up_to_id) FROM ledger_checkpoints AS newest WHERE newest.account_id = ledger_checkpoints.account_id);
