-- Cards that tenants saved at the payment provider, and what is charged to them without anybody being there. Of a card only that is kept which
-- people know it by, and how the provider calls it until it has forgotten it.
CREATE TABLE cards (
  id                   text PRIMARY KEY CHECK (id ~ '^card_[a-z2-7]{26}$'),
  tenant_id            text NOT NULL REFERENCES tenants,
  account_id           text NOT NULL,
  user_id              text NOT NULL REFERENCES users,
  -- requested: the provider does not know of it yet; open: a page waits for it; leaving: the provider is still to forget it
  state                text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'open', 'saved', 'expired', 'leaving', 'gone')),
  checkout_session_id  text UNIQUE,
  checkout_url         text NOT NULL DEFAULT '',
  payment_method_id    text UNIQUE,
  brand                text NOT NULL DEFAULT '',
  last4                text NOT NULL DEFAULT '' CHECK (last4 ~ '^([0-9]{4})?$'),
  exp_month            integer NOT NULL DEFAULT 0 CHECK (exp_month BETWEEN 0 AND 12),
  exp_year             integer NOT NULL DEFAULT 0,
  correlation_id       text NOT NULL,
  expires_at           timestamptz(3),
  saved_at             timestamptz(3),
  gone_at              timestamptz(3),
  created_at           timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (id, account_id),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  CONSTRAINT cards_known CHECK ((state IN ('saved', 'leaving')) = (payment_method_id IS NOT NULL)),
  CONSTRAINT cards_forgotten CHECK (state <> 'gone' OR (last4 = '' AND brand = '' AND gone_at IS NOT NULL))
);
CREATE UNIQUE INDEX cards_one_saved ON cards (account_id) WHERE state = 'saved';
CREATE INDEX cards_leaving ON cards (id) WHERE state = 'leaving';
CREATE INDEX cards_of_tenant ON cards (tenant_id, created_at DESC, id DESC);
CREATE TRIGGER cards_stay BEFORE DELETE ON cards FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE cards ENABLE ALWAYS TRIGGER cards_stay;

-- What a tenant wants to be charged by itself. failures counts those in a row; from as many as policy allows on it is paused until somebody
-- sets it again.
CREATE TABLE auto_topups (
  account_id          text PRIMARY KEY,
  tenant_id           text NOT NULL,
  user_id             text NOT NULL REFERENCES users,
  enabled             boolean NOT NULL,
  threshold_micros    bigint NOT NULL CHECK (threshold_micros >= 0),
  amount_micros       bigint NOT NULL CHECK (amount_micros > 0),
  monthly_cap_micros  bigint NOT NULL,
  failures            integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  retry_at            timestamptz(3),
  paused_at           timestamptz(3),
  paused_reason       text NOT NULL DEFAULT '',
  updated_at          timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  CONSTRAINT auto_topups_cap CHECK (monthly_cap_micros >= amount_micros),
  CONSTRAINT auto_topups_paused CHECK (paused_at IS NOT NULL OR paused_reason = '')
);
CREATE TRIGGER auto_topups_stay BEFORE DELETE ON auto_topups FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE auto_topups ENABLE ALWAYS TRIGGER auto_topups_stay;

ALTER TABLE payments
  ADD COLUMN card_id text,
  ADD CONSTRAINT payments_card_of_account FOREIGN KEY (card_id, account_id) REFERENCES cards (id, account_id),
  ADD CONSTRAINT payments_card CHECK ((method = 'auto_topup') = (card_id IS NOT NULL));
-- Never two automatic charges of an account at once.
CREATE UNIQUE INDEX payments_one_topup ON payments (account_id) WHERE method = 'auto_topup' AND state IN ('requested', 'open', 'processing');
CREATE INDEX payments_topups ON payments (account_id, created_at) WHERE method = 'auto_topup';

-- An automatic charge is what the tenant wants, and never more in a calendar month (UTC) than its cap: the wish is held, so that of two the
-- second sees the first.
CREATE FUNCTION payments_within_cap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  wish auto_topups;
  month timestamp := date_trunc('month', NEW.created_at AT TIME ZONE 'UTC');
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'automatic charges are written in READ COMMITTED alone'
      USING ERRCODE = 'invalid_transaction_state', CONSTRAINT = 'payments_read_committed';
  END IF;
  SELECT * INTO wish FROM auto_topups WHERE account_id = NEW.account_id FOR NO KEY UPDATE;
  IF NOT FOUND OR NOT wish.enabled OR wish.paused_at IS NOT NULL OR wish.amount_micros <> NEW.amount_micros THEN
    RAISE EXCEPTION 'nobody wants % to be charged this', NEW.account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payments_topup_wanted';
  END IF;
  IF NEW.amount_micros + coalesce((SELECT sum(amount_micros) FROM payments WHERE account_id = NEW.account_id AND method = 'auto_topup'
      AND state NOT IN ('failed', 'expired') AND created_at >= month AT TIME ZONE 'UTC' AND created_at < (month + interval '1 month') AT TIME ZONE 'UTC'), 0) > wish.monthly_cap_micros THEN
    RAISE EXCEPTION 'more would be charged to % this month than its cap', NEW.account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payments_topup_cap';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER payments_within_cap BEFORE INSERT ON payments FOR EACH ROW WHEN (NEW.method = 'auto_topup') EXECUTE FUNCTION payments_within_cap();
ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_within_cap;

CREATE OR REPLACE FUNCTION payments_are_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.id, NEW.tenant_id, NEW.account_id, NEW.user_id, NEW.method, NEW.currency, NEW.amount_micros, NEW.card_id, NEW.created_at)
      IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.account_id, OLD.user_id, OLD.method, OLD.currency, OLD.amount_micros, OLD.card_id, OLD.created_at)
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

-- Whoever watches the account is told of a wish that changed, and of a card that was saved, as of a change of policy.
CREATE FUNCTION auto_topup_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('policy_changed', 'billing.auto_topup ' || NEW.tenant_id);
  RETURN NULL;
END $$;
CREATE TRIGGER auto_topups_changed AFTER INSERT OR UPDATE ON auto_topups FOR EACH ROW EXECUTE FUNCTION auto_topup_changed();
CREATE TRIGGER cards_saved AFTER INSERT OR UPDATE ON cards FOR EACH ROW WHEN (NEW.state = 'saved') EXECUTE FUNCTION auto_topup_changed();

GRANT SELECT, INSERT, UPDATE ON cards, auto_topups TO gpuaas_app;
