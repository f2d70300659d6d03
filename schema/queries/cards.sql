-- name: CardInsert
INSERT INTO cards (id, tenant_id, account_id, user_id, correlation_id, expires_at)
VALUES (@id, @tenant_id, @account_id, @user_id, @correlation_id, @expires_at)
ON CONFLICT (id) DO NOTHING;

-- name: CardGet
SELECT id, tenant_id, account_id, user_id, state, checkout_session_id, checkout_url, payment_method_id, brand, last4, exp_month, exp_year,
  correlation_id, expires_at, saved_at, created_at
FROM cards WHERE id = @id AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id);

-- name: CardHold
-- Held until the end of the transaction, so that what is decided about it holds.
SELECT id, tenant_id, account_id, user_id, state, checkout_session_id, checkout_url, payment_method_id, brand, last4, exp_month, exp_year,
  correlation_id, expires_at, saved_at, created_at
FROM cards WHERE id = @id FOR NO KEY UPDATE;

-- name: CardSaved
-- The one that is charged.
SELECT id, tenant_id, account_id, user_id, state, checkout_session_id, checkout_url, payment_method_id, brand, last4, exp_month, exp_year,
  correlation_id, expires_at, saved_at, created_at
FROM cards WHERE tenant_id = @tenant_id AND account_id = @account_id AND state = 'saved';

-- name: CardOpened
UPDATE cards SET state = 'open', checkout_session_id = @checkout_session_id, checkout_url = @checkout_url
WHERE id = @id AND tenant_id = @tenant_id AND state = 'requested';

-- name: CardExpired
UPDATE cards SET state = 'expired', checkout_url = '' WHERE id = @id AND tenant_id = @tenant_id AND state IN ('requested', 'open');

-- name: CardKeep
-- What somebody saved, by a page of its own or with a deposit. One of a closed tenant leaves at once.
INSERT INTO cards (id, tenant_id, account_id, user_id, state, payment_method_id, brand, last4, exp_month, exp_year, correlation_id, saved_at)
VALUES (@id, @tenant_id, @account_id, @user_id, @state, @payment_method_id, @brand, @last4, @exp_month, @exp_year, @correlation_id, @saved_at)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, payment_method_id = excluded.payment_method_id, brand = excluded.brand, last4 = excluded.last4,
  exp_month = excluded.exp_month, exp_year = excluded.exp_year, saved_at = excluded.saved_at, checkout_url = ''
WHERE cards.tenant_id = excluded.tenant_id AND cards.state IN ('requested', 'open', 'expired');

-- name: CardLeave
UPDATE cards SET state = 'leaving' WHERE tenant_id = @tenant_id AND account_id = @account_id AND state = 'saved';

-- name: CardGone
UPDATE cards SET state = 'gone', payment_method_id = NULL, brand = '', last4 = '', exp_month = 0, exp_year = 0, gone_at = @gone_at
WHERE id = @id AND tenant_id = @tenant_id AND state = 'leaving';

-- name: CardsLeaving
-- Of one account, or any of all, so that those that the provider refuses for good hold none up.
SELECT id, tenant_id, account_id, user_id, state, checkout_session_id, checkout_url, payment_method_id, brand, last4, exp_month, exp_year,
  correlation_id, expires_at, saved_at, created_at
FROM cards WHERE state = 'leaving' AND (@account_id::text IS NULL OR account_id = @account_id)
ORDER BY random() LIMIT @row_limit;

-- name: ClosingDropCards
UPDATE cards SET state = 'leaving' WHERE tenant_id = @tenant_id AND state = 'saved';

-- name: ClosingStopAutoTopUp
UPDATE auto_topups SET enabled = false WHERE tenant_id = @tenant_id AND enabled;

-- name: EraseTenantCards
UPDATE cards SET brand = '', last4 = '', exp_month = 0, exp_year = 0, checkout_url = '' WHERE tenant_id = @tenant_id;

-- name: AutoTopUpGet
SELECT account_id, tenant_id, user_id, enabled, threshold_micros, amount_micros, monthly_cap_micros, failures, retry_at, paused_at, paused_reason, updated_at
FROM auto_topups WHERE tenant_id = @tenant_id AND account_id = @account_id;

-- name: AutoTopUpPut
-- Whoever sets it wants it tried again.
INSERT INTO auto_topups (account_id, tenant_id, user_id, enabled, threshold_micros, amount_micros, monthly_cap_micros)
VALUES (@account_id, @tenant_id, @user_id, @enabled, @threshold_micros, @amount_micros, @monthly_cap_micros)
ON CONFLICT (account_id) DO UPDATE SET user_id = excluded.user_id, enabled = excluded.enabled, threshold_micros = excluded.threshold_micros,
  amount_micros = excluded.amount_micros, monthly_cap_micros = excluded.monthly_cap_micros, failures = 0, retry_at = NULL, paused_at = NULL,
  paused_reason = '', updated_at = clock_timestamp();

-- name: AutoTopUpFailed
UPDATE auto_topups SET failures = failures + 1, retry_at = @retry_at,
  paused_at = CASE WHEN @pause_now OR failures + 1 >= @most_failures::bigint THEN coalesce(paused_at, @at) ELSE paused_at END,
  paused_reason = CASE WHEN paused_at IS NULL AND (@pause_now OR failures + 1 >= @most_failures::bigint) THEN @reason ELSE paused_reason END
WHERE tenant_id = @tenant_id AND account_id = @account_id
RETURNING failures, paused_at;

-- name: AutoTopUpSucceeded
UPDATE auto_topups SET failures = 0, retry_at = NULL WHERE tenant_id = @tenant_id AND account_id = @account_id AND (failures > 0 OR retry_at IS NOT NULL);

-- name: AutoTopUpInFlight
SELECT id, state FROM payments
WHERE tenant_id = @tenant_id AND account_id = @account_id AND method = 'auto_topup' AND state IN ('requested', 'open', 'processing');

-- name: AutoTopUpCharged
-- What was charged by itself in this calendar month (UTC), or is being charged, as the cap counts it; and when the month ends.
SELECT coalesce(sum(amount_micros), 0)::bigint AS charged_micros,
  (date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC' AS month_ends_at
FROM payments
WHERE tenant_id = @tenant_id AND account_id = @account_id AND method = 'auto_topup' AND state NOT IN ('failed', 'expired')
  AND created_at >= date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
