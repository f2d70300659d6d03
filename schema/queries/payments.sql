-- name: PaymentInsert
INSERT INTO payments (id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, correlation_id, expires_at)
VALUES (@id, @tenant_id, @account_id, @user_id, @method, @currency, @amount_micros, @save_card, @card_id, @correlation_id, @expires_at)
ON CONFLICT (id) DO NOTHING;

-- name: PaymentGet
SELECT id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, state, state_reason, checkout_session_id, checkout_url,
  payment_intent_id, entry_id, correlation_id, expires_at, credited_at, created_at
FROM payments WHERE id = @id AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id);

-- name: PaymentHold
-- Held until the end of the transaction, so that what is decided about it holds.
SELECT id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, state, state_reason, checkout_session_id, checkout_url,
  payment_intent_id, entry_id, correlation_id, expires_at, credited_at, created_at
FROM payments WHERE id = @id FOR NO KEY UPDATE;

-- name: PaymentOf
-- The payment that an object of the provider belongs to.
SELECT id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, state, state_reason, checkout_session_id, checkout_url,
  payment_intent_id, entry_id, correlation_id, expires_at, credited_at, created_at
FROM payments WHERE (checkout_session_id = @checkout_session_id AND @checkout_session_id <> '') OR (payment_intent_id = @payment_intent_id AND @payment_intent_id <> '')
LIMIT 1;

-- name: PaymentPage
SELECT id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, state, state_reason, checkout_session_id, checkout_url,
  payment_intent_id, entry_id, correlation_id, expires_at, credited_at, created_at
FROM payments
WHERE tenant_id = @tenant_id AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: PaymentPageOfAll
-- Of all tenants, for operators.
SELECT id, tenant_id, account_id, user_id, method, currency, amount_micros, save_card, card_id, state, state_reason, checkout_session_id, checkout_url,
  payment_intent_id, entry_id, correlation_id, expires_at, credited_at, created_at
FROM payments
WHERE (@state::text IS NULL OR state = @state) AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: PaymentOpened
UPDATE payments SET state = 'open', checkout_session_id = @checkout_session_id, checkout_url = @checkout_url
WHERE id = @id AND tenant_id = @tenant_id AND state = 'requested';

-- name: PaymentMove
-- A state other than credited; one that has ended stays.
UPDATE payments SET state = @state, state_reason = @state_reason, payment_intent_id = coalesce(payment_intent_id, @payment_intent_id)
WHERE id = @id AND tenant_id = @tenant_id AND state <> @state AND state NOT IN ('credited', 'held') AND (state NOT IN ('failed', 'expired') OR @state = 'held');

-- name: PaymentCredited
UPDATE payments SET state = 'credited', state_reason = '', payment_intent_id = @payment_intent_id, entry_id = @entry_id, credited_at = @credited_at, checkout_url = ''
WHERE id = @id AND tenant_id = @tenant_id AND state <> 'credited';

-- name: RefundInsert
INSERT INTO refunds (id, payment_id, tenant_id, account_id, user_id, currency, amount_micros, reason, entry_id, correlation_id)
VALUES (@id, @payment_id, @tenant_id, @account_id, @user_id, @currency, @amount_micros, @reason, @entry_id, @correlation_id);

-- name: RefundGet
SELECT id, payment_id, tenant_id, account_id, user_id, currency, amount_micros, reason, state, failure_reason, stripe_refund_id, entry_id,
  outcome_entry_id, returned_entry_id, correlation_id, created_at, ended_at
FROM refunds WHERE id = @id AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id);

-- name: RefundHold
SELECT id, payment_id, tenant_id, account_id, user_id, currency, amount_micros, reason, state, failure_reason, stripe_refund_id, entry_id,
  outcome_entry_id, returned_entry_id, correlation_id, created_at, ended_at
FROM refunds WHERE id = @id FOR NO KEY UPDATE;

-- name: RefundByStripe
SELECT id, payment_id, tenant_id, account_id, user_id, currency, amount_micros, reason, state, failure_reason, stripe_refund_id, entry_id,
  outcome_entry_id, returned_entry_id, correlation_id, created_at, ended_at
FROM refunds WHERE stripe_refund_id = @stripe_refund_id;

-- name: RefundPage
SELECT id, payment_id, tenant_id, account_id, user_id, currency, amount_micros, reason, state, failure_reason, stripe_refund_id, entry_id,
  outcome_entry_id, returned_entry_id, correlation_id, created_at, ended_at
FROM refunds
WHERE tenant_id = @tenant_id AND (@payment_id::text IS NULL OR payment_id = @payment_id)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: RefundedOfPayment
SELECT coalesce(sum(amount_micros), 0)::bigint AS refunded_micros FROM refunds WHERE payment_id = @payment_id AND tenant_id = @tenant_id AND state <> 'failed';

-- name: RefundSent
UPDATE refunds SET stripe_refund_id = @stripe_refund_id WHERE id = @id AND tenant_id = @tenant_id AND stripe_refund_id IS NULL AND state = 'pending';

-- name: RefundEnded
UPDATE refunds SET state = @state, failure_reason = @failure_reason, outcome_entry_id = @outcome_entry_id, ended_at = @ended_at
WHERE id = @id AND tenant_id = @tenant_id AND state = 'pending';

-- name: RefundReturned
UPDATE refunds SET state = 'failed', failure_reason = @failure_reason, returned_entry_id = @returned_entry_id
WHERE id = @id AND tenant_id = @tenant_id AND state = 'succeeded';

-- name: DisputeInsert
INSERT INTO disputes (id, stripe_dispute_id, payment_id, tenant_id, account_id, currency, amount_micros, reason, evidence_due_at)
VALUES (@id, @stripe_dispute_id, @payment_id, @tenant_id, @account_id, @currency, @amount_micros, @reason, @evidence_due_at)
ON CONFLICT (id) DO NOTHING;

-- name: DisputeHold
SELECT id, stripe_dispute_id, payment_id, tenant_id, account_id, currency, amount_micros, reason, state, withdrawn_entry_id, outcome_entry_id,
  evidence_due_at, created_at, closed_at
FROM disputes WHERE id = @id FOR NO KEY UPDATE;

-- name: DisputePage
-- Of all tenants, for operators.
SELECT id, stripe_dispute_id, payment_id, tenant_id, account_id, currency, amount_micros, reason, state, withdrawn_entry_id, outcome_entry_id,
  evidence_due_at, created_at, closed_at
FROM disputes
WHERE (@state::text IS NULL OR state = @state) AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: DisputeOpenOfAccount
SELECT EXISTS (SELECT FROM disputes WHERE account_id = @account_id AND tenant_id = @tenant_id AND state = 'open') AS disputed;

-- name: DisputeWithdrawn
UPDATE disputes SET withdrawn_entry_id = @withdrawn_entry_id WHERE id = @id AND tenant_id = @tenant_id AND withdrawn_entry_id IS NULL AND state = 'open';

-- name: DisputeClosed
UPDATE disputes SET state = @state, outcome_entry_id = @outcome_entry_id, closed_at = @closed_at WHERE id = @id AND tenant_id = @tenant_id AND state = 'open';

-- name: StripeEventInsert
INSERT INTO stripe_events (event_id, type, api_version, object_id, source, body, body_sha256, happened_at)
VALUES (@event_id, @type, @api_version, @object_id, @source, @body, sha256(@body), @happened_at)
ON CONFLICT (event_id) DO NOTHING;

-- name: StripeEventBody
SELECT body FROM stripe_events WHERE event_id = @event_id;

-- name: StripeEventOutcomeInsert
INSERT INTO stripe_event_outcomes (event_id, outcome, tenant_id, about) VALUES (@event_id, @outcome, @tenant_id, @about)
ON CONFLICT (event_id) DO NOTHING;

-- name: StripeEventsUndone
-- What was stored and nobody has looked at, although there was time to.
SELECT event_id FROM stripe_events
WHERE received_at < @before::timestamptz AND received_at > @before::timestamptz - interval '40 days'
  AND NOT EXISTS (SELECT FROM stripe_event_outcomes WHERE stripe_event_outcomes.event_id = stripe_events.event_id)
ORDER BY received_at LIMIT @row_limit;

-- name: StripeDisputesUnmatched
-- Disputes that were about nothing of ours when somebody heard of them, and are not known yet.
SELECT DISTINCT object_id FROM stripe_events JOIN stripe_event_outcomes USING (event_id)
WHERE outcome = 'unmatched' AND type LIKE 'charge.dispute.%' AND happened_at > @since::timestamptz
  AND NOT EXISTS (SELECT FROM disputes WHERE stripe_dispute_id = object_id)
ORDER BY object_id DESC LIMIT @row_limit;

-- name: StripeEventNewest
SELECT max(happened_at) AS happened_at FROM stripe_events;

-- name: StripeCustomerGet
SELECT customer_id FROM stripe_customers WHERE tenant_id = @tenant_id;

-- name: StripeCustomerInsert
INSERT INTO stripe_customers (tenant_id, customer_id) VALUES (@tenant_id, @customer_id) ON CONFLICT (tenant_id) DO NOTHING;

-- name: EraseTenantStripeCustomer
UPDATE stripe_customers SET leaving_at = clock_timestamp() WHERE tenant_id = @tenant_id AND leaving_at IS NULL;

-- name: StripeCustomersLeaving
-- Whom the provider is still to forget, of all tenants: once nothing of theirs is under way there. Any of them, so that those whom the
-- provider refuses for good hold nobody up.
SELECT tenant_id, customer_id FROM stripe_customers
WHERE leaving_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM payments WHERE payments.tenant_id = stripe_customers.tenant_id AND state IN ('requested', 'open', 'processing'))
  AND NOT EXISTS (SELECT FROM cards WHERE cards.tenant_id = stripe_customers.tenant_id AND state IN ('requested', 'open', 'leaving'))
ORDER BY random() LIMIT @row_limit;

-- name: StripeCustomerForget
DELETE FROM stripe_customers WHERE tenant_id = @tenant_id AND customer_id = @customer_id AND leaving_at IS NOT NULL;

-- name: EraseTenantStripeEvents
UPDATE stripe_events SET body = '' WHERE body <> '' AND event_id IN (SELECT event_id FROM stripe_event_outcomes WHERE tenant_id = @tenant_id);
