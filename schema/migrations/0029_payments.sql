-- Money from and to the payment provider: payments, refunds, disputes, and the events it sends. What is fact stands in the ledger; what
-- may never happen is refused here.

ALTER TABLE accounts
  DROP CONSTRAINT accounts_kind_check,
  ADD CONSTRAINT accounts_kind_check CHECK (kind IN ('tenant', 'platform_revenue', 'platform_credit', 'platform_refunds_due',
    'platform_stripe_clearing', 'platform_refunds_pending', 'platform_disputes'));
-- What the provider holds for us, what is on its way back to a customer, and what a bank has taken until a dispute is decided.
INSERT INTO accounts (id, kind, currency) VALUES
  ('acct_platformstripeclearingusda', 'platform_stripe_clearing', 'usd'),
  ('acct_platformrefundspendingusda', 'platform_refunds_pending', 'usd'),
  ('acct_platformdisputesusdaaaaaaa', 'platform_disputes', 'usd');

ALTER TABLE ledger_entries
  DROP CONSTRAINT ledger_entries_kind_check,
  ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('usage', 'usage_credit', 'outage_credit', 'suspension_credit', 'adjustment_credit',
    'adjustment_debit', 'opening_credit', 'closing_refund', 'deposit', 'refund', 'refund_settled', 'refund_reversed', 'dispute_withdrawn',
    'dispute_reinstated', 'dispute_lost'));

-- A deposit into a closed tenant is held for an operator. What a bank does is a fact whatever the tenant is.
DROP TRIGGER ledger_account_open ON ledger_entries;
CREATE TRIGGER ledger_account_open BEFORE INSERT ON ledger_entries FOR EACH ROW
  WHEN (NEW.kind IN ('adjustment_credit', 'adjustment_debit', 'opening_credit', 'deposit', 'refund')) EXECUTE FUNCTION ledger_account_open();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_account_open;

-- A refund never takes a balance below zero, whoever writes it. The account is held, so that of two the second sees the first.
CREATE FUNCTION ledger_refund_covered() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  balance bigint;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'refunds are written in READ COMMITTED alone'
      USING ERRCODE = 'invalid_transaction_state', CONSTRAINT = 'ledger_read_committed';
  END IF;
  PERFORM FROM accounts WHERE id = NEW.debit_account_id FOR NO KEY UPDATE;
  SELECT coalesce((SELECT balance_micros FROM ledger_checkpoints WHERE account_id = NEW.debit_account_id ORDER BY up_to_id DESC LIMIT 1), 0)
    + coalesce((SELECT sum(amount_micros) FROM ledger_entries WHERE credit_account_id = NEW.debit_account_id
        AND id > coalesce((SELECT max(up_to_id) FROM ledger_checkpoints WHERE account_id = NEW.debit_account_id), 0)), 0)
    - coalesce((SELECT sum(amount_micros) FROM ledger_entries WHERE debit_account_id = NEW.debit_account_id
        AND id > coalesce((SELECT max(up_to_id) FROM ledger_checkpoints WHERE account_id = NEW.debit_account_id), 0)), 0)
    INTO balance;
  IF balance < 0 THEN
    RAISE EXCEPTION 'the refund is larger than the balance of %', NEW.debit_account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_refund_covered';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_refund_covered AFTER INSERT ON ledger_entries FOR EACH ROW WHEN (NEW.kind = 'refund') EXECUTE FUNCTION ledger_refund_covered();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_refund_covered;

CREATE TABLE payments (
  id                   text PRIMARY KEY CHECK (id ~ '^pay_[a-z2-7]{26}$'),
  tenant_id            text NOT NULL REFERENCES tenants,
  account_id           text NOT NULL,
  -- who asked for it; null for an automatic one
  user_id              text REFERENCES users,
  method               text NOT NULL CHECK (method IN ('checkout', 'auto_topup')),
  currency             text NOT NULL,
  amount_micros        bigint NOT NULL CHECK (amount_micros > 0),
  save_card            boolean NOT NULL DEFAULT false,
  state                text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'open', 'processing', 'credited', 'failed', 'expired', 'held')),
  state_reason         text NOT NULL DEFAULT '',
  checkout_session_id  text UNIQUE,
  checkout_url         text NOT NULL DEFAULT '',
  payment_intent_id    text UNIQUE,
  entry_id             bigint UNIQUE REFERENCES ledger_entries,
  correlation_id       text NOT NULL,
  expires_at           timestamptz(3),
  credited_at          timestamptz(3),
  created_at           timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (id, account_id),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT payments_credited CHECK ((state = 'credited') = (entry_id IS NOT NULL) AND (entry_id IS NULL) = (credited_at IS NULL)),
  CONSTRAINT payments_person CHECK ((user_id IS NULL) = (method = 'auto_topup'))
);
CREATE INDEX payments_of_tenant ON payments (tenant_id, created_at DESC, id DESC);
CREATE INDEX payments_by_time ON payments (created_at DESC, id DESC);

-- What was asked for, and what was credited, stay as they are. A credit is the entry of this very payment.
CREATE FUNCTION payments_are_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.id, NEW.tenant_id, NEW.account_id, NEW.user_id, NEW.method, NEW.currency, NEW.amount_micros, NEW.created_at)
      IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.account_id, OLD.user_id, OLD.method, OLD.currency, OLD.amount_micros, OLD.created_at)
    OR OLD.checkout_session_id IS NOT NULL AND NEW.checkout_session_id IS DISTINCT FROM OLD.checkout_session_id
    OR OLD.entry_id IS NOT NULL AND (NEW.entry_id, NEW.state, NEW.payment_intent_id) IS DISTINCT FROM (OLD.entry_id, OLD.state, OLD.payment_intent_id) THEN
    RAISE EXCEPTION 'what the payment % is does not change', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payments_are_facts';
  END IF;
  IF NEW.entry_id IS NOT NULL AND OLD.entry_id IS NULL AND NOT EXISTS (
      SELECT FROM ledger_entries WHERE id = NEW.entry_id AND kind = 'deposit' AND credit_account_id = NEW.account_id
        AND amount_micros = NEW.amount_micros AND idempotency_key = 'stripe:pi:' || NEW.payment_intent_id) THEN
    RAISE EXCEPTION 'the entry is not that of the payment %', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payments_entry';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER payments_are_facts BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION payments_are_facts();
ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_are_facts;
CREATE TRIGGER payments_stay BEFORE DELETE ON payments FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_stay;

CREATE TABLE disputes (
  id                  text PRIMARY KEY CHECK (id ~ '^disp_[a-z2-7]{26}$'),
  stripe_dispute_id   text NOT NULL UNIQUE,
  payment_id          text NOT NULL,
  tenant_id           text NOT NULL REFERENCES tenants,
  account_id          text NOT NULL,
  currency            text NOT NULL,
  amount_micros       bigint NOT NULL CHECK (amount_micros > 0),
  reason              text NOT NULL,
  state               text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'won', 'lost')),
  -- null while the bank only asks and has taken nothing
  withdrawn_entry_id  bigint UNIQUE REFERENCES ledger_entries,
  outcome_entry_id    bigint UNIQUE REFERENCES ledger_entries,
  evidence_due_at     timestamptz(3),
  created_at          timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  closed_at           timestamptz(3),
  FOREIGN KEY (payment_id, account_id) REFERENCES payments (id, account_id),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT disputes_closed CHECK ((state = 'open') = (closed_at IS NULL)),
  CONSTRAINT disputes_outcome CHECK ((outcome_entry_id IS NULL) = (state = 'open' OR withdrawn_entry_id IS NULL))
);
CREATE INDEX disputes_by_time ON disputes (created_at DESC, id DESC);
CREATE INDEX disputes_open ON disputes (account_id) WHERE state = 'open';
CREATE TRIGGER disputes_stay BEFORE DELETE ON disputes FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE disputes ENABLE ALWAYS TRIGGER disputes_stay;

CREATE TABLE refunds (
  id                 text PRIMARY KEY CHECK (id ~ '^ref_[a-z2-7]{26}$'),
  payment_id         text NOT NULL,
  tenant_id          text NOT NULL REFERENCES tenants,
  account_id         text NOT NULL,
  user_id            text NOT NULL REFERENCES users,
  currency           text NOT NULL,
  amount_micros      bigint NOT NULL CHECK (amount_micros > 0),
  reason             text NOT NULL,
  state              text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed')),
  failure_reason     text NOT NULL DEFAULT '',
  stripe_refund_id   text UNIQUE,
  entry_id           bigint NOT NULL UNIQUE REFERENCES ledger_entries,
  outcome_entry_id   bigint UNIQUE REFERENCES ledger_entries,
  -- a bank sent the money back after the refund had succeeded
  returned_entry_id  bigint UNIQUE REFERENCES ledger_entries,
  correlation_id     text NOT NULL,
  created_at         timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  ended_at           timestamptz(3),
  FOREIGN KEY (payment_id, account_id) REFERENCES payments (id, account_id),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT refunds_outcome CHECK ((state = 'pending') = (outcome_entry_id IS NULL) AND (state = 'pending') = (ended_at IS NULL)),
  CONSTRAINT refunds_returned CHECK (returned_entry_id IS NULL OR state = 'failed')
);
CREATE INDEX refunds_of_tenant ON refunds (tenant_id, created_at DESC, id DESC);
CREATE INDEX refunds_of_payment ON refunds (payment_id);

-- Never more than was paid less what was refunded, and nothing while a dispute is open. The payment is held, so that of two the second
-- sees the first.
CREATE FUNCTION refunds_within_payment() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  paid bigint;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'refunds are written in READ COMMITTED alone'
      USING ERRCODE = 'invalid_transaction_state', CONSTRAINT = 'refunds_read_committed';
  END IF;
  SELECT amount_micros INTO paid FROM payments WHERE id = NEW.payment_id AND state = 'credited' FOR NO KEY UPDATE;
  IF NOT FOUND OR NEW.amount_micros + coalesce((SELECT sum(amount_micros) FROM refunds WHERE payment_id = NEW.payment_id AND state <> 'failed'), 0) > paid THEN
    RAISE EXCEPTION 'more than was paid by % would be refunded', NEW.payment_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'refunds_within_payment';
  END IF;
  IF EXISTS (SELECT FROM disputes WHERE account_id = NEW.account_id AND state = 'open') THEN
    RAISE EXCEPTION 'a payment of % is disputed', NEW.account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'refunds_undisputed';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER refunds_within_payment BEFORE INSERT ON refunds FOR EACH ROW EXECUTE FUNCTION refunds_within_payment();
ALTER TABLE refunds ENABLE ALWAYS TRIGGER refunds_within_payment;

CREATE FUNCTION refunds_are_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.id, NEW.payment_id, NEW.tenant_id, NEW.account_id, NEW.user_id, NEW.currency, NEW.amount_micros, NEW.entry_id, NEW.created_at)
      IS DISTINCT FROM (OLD.id, OLD.payment_id, OLD.tenant_id, OLD.account_id, OLD.user_id, OLD.currency, OLD.amount_micros, OLD.entry_id, OLD.created_at)
    OR OLD.state = 'failed' OR (OLD.state = 'succeeded' AND (NEW.state <> 'failed' OR NEW.returned_entry_id IS NULL OR NEW.outcome_entry_id <> OLD.outcome_entry_id))
    OR OLD.stripe_refund_id IS NOT NULL AND NEW.stripe_refund_id IS DISTINCT FROM OLD.stripe_refund_id THEN
    RAISE EXCEPTION 'what the refund % is does not change', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'refunds_are_facts';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER refunds_are_facts BEFORE UPDATE ON refunds FOR EACH ROW EXECUTE FUNCTION refunds_are_facts();
ALTER TABLE refunds ENABLE ALWAYS TRIGGER refunds_are_facts;
CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE refunds ENABLE ALWAYS TRIGGER refunds_stay;

-- Every event of the provider, as it was sent. It may name people, so its body can be blanked, and nothing else of it changed.
CREATE TABLE stripe_events (
  event_id     text PRIMARY KEY CHECK (length(event_id) BETWEEN 1 AND 255),
  type         text NOT NULL,
  api_version  text NOT NULL,
  object_id    text NOT NULL,
  -- webhook: it was told; asked: no webhook told of it
  source       text NOT NULL CHECK (source IN ('webhook', 'asked')),
  body         bytea NOT NULL,
  body_sha256  bytea NOT NULL,
  happened_at  timestamptz(3) NOT NULL,
  received_at  timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stripe_events_by_time ON stripe_events (happened_at);
CREATE FUNCTION stripe_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.body = '' AND (NEW.event_id, NEW.type, NEW.api_version, NEW.object_id, NEW.source, NEW.body_sha256, NEW.happened_at, NEW.received_at)
      IS NOT DISTINCT FROM (OLD.event_id, OLD.type, OLD.api_version, OLD.object_id, OLD.source, OLD.body_sha256, OLD.happened_at, OLD.received_at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'what was received stays as it is' USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'stripe_events_stay';
END $$;
CREATE TRIGGER stripe_events_stay BEFORE UPDATE OR DELETE ON stripe_events FOR EACH ROW EXECUTE FUNCTION stripe_events_stay();
ALTER TABLE stripe_events ENABLE ALWAYS TRIGGER stripe_events_stay;

-- What became of an event, once.
CREATE TABLE stripe_event_outcomes (
  event_id    text PRIMARY KEY REFERENCES stripe_events,
  -- told: somebody looks at the payment, refund or dispute; unmatched: it is about nothing of ours; ignored: there is nothing to do
  outcome     text NOT NULL CHECK (outcome IN ('told', 'unmatched', 'ignored')),
  tenant_id   text,
  about       text NOT NULL DEFAULT '',
  created_at  timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER stripe_event_outcomes_immutable BEFORE UPDATE OR DELETE ON stripe_event_outcomes FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE stripe_event_outcomes ENABLE ALWAYS TRIGGER stripe_event_outcomes_immutable;

-- What a tenant is at the provider; removed when the tenant is erased.
CREATE TABLE stripe_customers (
  tenant_id    text PRIMARY KEY REFERENCES tenants,
  customer_id  text NOT NULL UNIQUE,
  created_at   timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, UPDATE ON payments, refunds, disputes TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE (body) ON stripe_events TO gpuaas_app;
GRANT SELECT, INSERT ON stripe_event_outcomes TO gpuaas_app;
GRANT SELECT, INSERT, DELETE ON stripe_customers TO gpuaas_app;
