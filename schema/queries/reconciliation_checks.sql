-- What a reconciliation reads, of all tenants, a stretch at a time and behind nobody's lock.

-- name: CheckMeters
-- Meters that run or ended since an instant, those that are asked for, and all of them where no instant is given.
SELECT id, account_id, currency, rate_micros_per_hour, window_seconds, windows_per_settlement, metered_from, metered_to, suspended_at, updated_at
FROM allocations
WHERE metered_from IS NOT NULL AND id > @after_id AND (@since::timestamptz IS NULL OR ended_at IS NULL OR ended_at >= @since OR id = ANY (@again::text[]))
ORDER BY id LIMIT @row_limit;

-- name: CheckSettlements
SELECT allocation_id, metered_to FROM ledger_settlements WHERE allocation_id = ANY (@allocation_ids::text[]);

-- name: CheckUsage
-- Usage by allocation: a gap is time between two windows, an overlap time in both.
SELECT allocation_id, count(*) AS windows, min(period_start) AS first_start, max(period_end) AS last_end, sum(amount_micros)::bigint AS usage_micros,
  coalesce(sum(step_ms) FILTER (WHERE step_ms > 0), 0)::bigint AS gap_ms, coalesce(-sum(step_ms) FILTER (WHERE step_ms < 0), 0)::bigint AS overlap_ms
FROM (
  SELECT allocation_id, period_start, period_end, amount_micros,
    round(extract(epoch FROM period_start - lag(period_end) OVER (PARTITION BY allocation_id ORDER BY period_start)) * 1000) AS step_ms
  FROM ledger_entries WHERE kind = 'usage' AND allocation_id = ANY (@allocation_ids::text[])
) AS usage
GROUP BY allocation_id;

-- name: CheckUsageCredits
SELECT allocation_id, kind, amount_micros, period_start, period_end FROM ledger_entries
WHERE allocation_id = ANY (@allocation_ids::text[]) AND allocation_id IS NOT NULL AND kind <> 'usage' AND period_start IS NOT NULL ORDER BY id;

-- name: CheckEntries
SELECT id, kind, debit_account_id, credit_account_id, currency, amount_micros, coalesce(allocation_id, '') AS allocation_id, period_start, period_end, idempotency_key
FROM ledger_entries
WHERE id > @after_id AND id <= @up_to_id ORDER BY id LIMIT @row_limit;

-- name: CheckEntriesAgain
SELECT id, kind, debit_account_id, credit_account_id, currency, amount_micros, coalesce(allocation_id, '') AS allocation_id, period_start, period_end, idempotency_key
FROM ledger_entries WHERE id = ANY (@ids::bigint[]) ORDER BY id;

-- name: CheckAccounts
SELECT id, coalesce(tenant_id, '') AS tenant_id, currency FROM accounts WHERE id = ANY (@ids::text[]);

-- name: CheckAllocations
SELECT id, account_id, state, node_id, generation, metered_from, updated_at, ended_at FROM allocations WHERE id = ANY (@ids::text[]);

-- name: CheckOpenAllocations
SELECT id, account_id, state, node_id, generation, metered_from, updated_at, ended_at FROM allocations WHERE ended_at IS NULL AND id > @after_id ORDER BY id LIMIT @row_limit;

-- name: CheckPaymentEntries
-- Entries that a payment, a refund or a dispute names as its own.
SELECT entry_id FROM payments WHERE entry_id = ANY (@entry_ids::bigint[])
UNION SELECT entry_id FROM refunds WHERE entry_id = ANY (@entry_ids::bigint[])
UNION SELECT outcome_entry_id FROM refunds WHERE outcome_entry_id = ANY (@entry_ids::bigint[])
UNION SELECT returned_entry_id FROM refunds WHERE returned_entry_id = ANY (@entry_ids::bigint[])
UNION SELECT withdrawn_entry_id FROM disputes WHERE withdrawn_entry_id = ANY (@entry_ids::bigint[])
UNION SELECT outcome_entry_id FROM disputes WHERE outcome_entry_id = ANY (@entry_ids::bigint[]);

-- name: CheckClosingEntries
-- Entries that a closing names as what it took out.
SELECT entry_id FROM refunds_due WHERE entry_id = ANY (@entry_ids::bigint[]);

-- name: CheckAdjustmentEntries
-- Entries that the audit log names as what an adjustment posted.
SELECT (details ->> 'entry_id')::bigint AS entry_id FROM audit_logs
WHERE target_type = 'adjustment' AND target_id = ANY (@adjustments::text[]) AND action = 'ledger.adjust' AND result = 'success' AND details ->> 'entry_id' ~ '^[0-9]{1,18}$';

-- name: CheckSpendingAccounts
-- Accounts of which something costs money, and has for a while.
SELECT account_id AS id, tenant_id, 'spending' AS state, '' AS stripe_id, min(updated_at) AS since FROM allocations
WHERE state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0 AND account_id > @after_id AND (@only::text IS NULL OR account_id = @only)
GROUP BY account_id, tenant_id HAVING min(updated_at) < @before ORDER BY account_id LIMIT @row_limit;

-- name: CheckOpenPayments
SELECT id, tenant_id, state, coalesce(checkout_session_id, '') AS stripe_id, created_at AS since FROM payments
WHERE state IN ('requested', 'open', 'processing') AND created_at < @before AND id > @after_id AND (@only::text IS NULL OR id = @only) ORDER BY id LIMIT @row_limit;

-- name: CheckPendingRefunds
SELECT id, tenant_id, state, coalesce(stripe_refund_id, '') AS stripe_id, created_at AS since FROM refunds
WHERE state = 'pending' AND created_at < @before AND id > @after_id AND (@only::text IS NULL OR id = @only) ORDER BY id LIMIT @row_limit;

-- name: CheckOpenDisputes
SELECT id, tenant_id, state, stripe_dispute_id AS stripe_id, created_at AS since FROM disputes
WHERE state = 'open' AND created_at < @before AND id > @after_id AND (@only::text IS NULL OR id = @only) ORDER BY id LIMIT @row_limit;

-- name: CheckNodes
SELECT id, claimed_by, generation, enrolled_at, updated_at FROM nodes WHERE id > @after_id ORDER BY id LIMIT @row_limit;

-- name: CheckLeases
SELECT node_id, generation, allocation_id, claimed_at, given_up_at FROM node_leases WHERE closed_at IS NULL AND node_id = ANY (@node_ids::text[]);

-- name: CheckBalances
-- What is answered for each account up to a final entry: its newest checkpoint and the entries behind it.
SELECT accounts.id, accounts.currency, checkpoint.up_to_id AS checkpoint_id, (coalesce(checkpoint.balance_micros, 0) + coalesce(tail.micros, 0))::bigint AS balance_micros
FROM (SELECT id, currency FROM accounts WHERE id > @after_id ORDER BY id LIMIT @row_limit) AS accounts
LEFT JOIN LATERAL (
  SELECT up_to_id, balance_micros FROM ledger_checkpoints WHERE account_id = accounts.id AND up_to_id <= @up_to_id ORDER BY up_to_id DESC LIMIT 1
) AS checkpoint ON true,
LATERAL (
  SELECT sum(part.micros) AS micros FROM (
    SELECT amount_micros AS micros FROM ledger_entries WHERE credit_account_id = accounts.id AND id > coalesce(checkpoint.up_to_id, 0) AND id <= @up_to_id
    UNION ALL
    SELECT -amount_micros FROM ledger_entries WHERE debit_account_id = accounts.id AND id > coalesce(checkpoint.up_to_id, 0) AND id <= @up_to_id
  ) AS part
) AS tail
ORDER BY accounts.id;

-- name: CheckBaseline
-- Where a sum may begin that need not look at everything: a checkpoint that runs before have held beside the entries.
SELECT up_to_id, balance_micros FROM ledger_checkpoints WHERE account_id = @account_id AND up_to_id <= @up_to_id AND created_at < @before ORDER BY up_to_id DESC LIMIT 1;

-- name: CheckSum
-- The sum of a stretch of an account's entries; next_id is where the stretch ends.
WITH stretch AS MATERIALIZED (
  (SELECT id, amount_micros AS micros FROM ledger_entries WHERE credit_account_id = @account_id AND id > @after_id AND id <= @up_to_id ORDER BY id LIMIT @row_limit)
  UNION ALL
  (SELECT id, -amount_micros FROM ledger_entries WHERE debit_account_id = @account_id AND id > @after_id AND id <= @up_to_id ORDER BY id LIMIT @row_limit)
), taken AS MATERIALIZED (
  SELECT id, micros FROM stretch ORDER BY id LIMIT @row_limit
)
SELECT count(*) AS entries, coalesce(sum(micros), 0)::bigint AS micros, coalesce(max(id), @up_to_id::bigint) AS next_id FROM taken;

-- name: CheckPaymentsOfIntents
SELECT id, tenant_id, account_id, currency, amount_micros, state, payment_intent_id, created_at FROM payments
WHERE payment_intent_id = ANY (@intents::text[]) OR id = ANY (@ids::text[]);

-- name: CheckEntriesByKey
SELECT id, idempotency_key, amount_micros, credit_account_id FROM ledger_entries WHERE idempotency_key = ANY (@keys::text[]);

-- name: CheckCreditedPayments
SELECT id, tenant_id, account_id, currency, amount_micros, state, payment_intent_id, created_at FROM payments
WHERE credited_at >= @since AND credited_at < @until AND id > @after_id ORDER BY id LIMIT @row_limit;

-- name: CheckRefundsOfStripe
SELECT id, account_id, currency, amount_micros, state, stripe_refund_id FROM refunds WHERE stripe_refund_id = ANY (@stripe_refund_ids::text[]) OR id = ANY (@ids::text[]);

-- name: CheckSentRefunds
SELECT id, account_id, currency, amount_micros, state, stripe_refund_id FROM refunds
WHERE state <> 'failed' AND stripe_refund_id IS NOT NULL AND created_at >= @since AND created_at < @until AND id > @after_id ORDER BY id LIMIT @row_limit;

-- name: CheckDisputes
SELECT id, stripe_dispute_id, account_id, currency, amount_micros, state FROM disputes WHERE stripe_dispute_id = ANY (@stripe_dispute_ids::text[]);
