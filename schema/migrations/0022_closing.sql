-- Closing a tenant: what remains is taken out by one entry and is due to be paid out; after its notice personal data is erased.

ALTER TABLE tenants
  -- when personal data is erased, unless the tenant is opened again before; null while it is not closed
  ADD COLUMN erase_at   timestamptz(3),
  ADD COLUMN erased_at  timestamptz(3),
  ADD CONSTRAINT tenants_closed CHECK (erase_at IS NULL OR status = 'closed'),
  ADD CONSTRAINT tenants_erased CHECK (erased_at IS NULL OR status = 'closed');

-- What is erased stays closed, and stays erased.
CREATE FUNCTION tenants_stay_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the tenant % was erased', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'tenants_stay_erased';
END $$;
CREATE TRIGGER tenants_stay_erased BEFORE UPDATE ON tenants FOR EACH ROW WHEN (OLD.erased_at IS NOT NULL) EXECUTE FUNCTION tenants_stay_erased();
ALTER TABLE tenants ENABLE ALWAYS TRIGGER tenants_stay_erased;

-- A tenant is closed only once nothing of it runs. Admissions take turns with it at the tenant's row.
CREATE FUNCTION tenant_in_use_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM allocations WHERE tenant_id = NEW.id AND state NOT IN ('released', 'failed')) THEN
    RAISE EXCEPTION 'the tenant % is in use', NEW.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'tenants_in_use';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tenants_in_use AFTER UPDATE OF status ON tenants FOR EACH ROW
  WHEN (NEW.status = 'closed' AND OLD.status <> 'closed') EXECUTE FUNCTION tenant_in_use_stays();
ALTER TABLE tenants ENABLE ALWAYS TRIGGER tenants_in_use;

CREATE FUNCTION allocation_in_open_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM tenants WHERE id = NEW.tenant_id AND status <> 'closed' FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the tenant % is closed', NEW.tenant_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'allocations_tenant_open';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER allocations_tenant_open AFTER INSERT ON allocations FOR EACH ROW EXECUTE FUNCTION allocation_in_open_tenant();
ALTER TABLE allocations ENABLE ALWAYS TRIGGER allocations_tenant_open;

-- Refunds that are due, as a liability of the platform.
ALTER TABLE accounts
  DROP CONSTRAINT accounts_kind_check,
  ADD CONSTRAINT accounts_kind_check CHECK (kind IN ('tenant', 'platform_revenue', 'platform_credit', 'platform_refunds_due'));
INSERT INTO accounts (id, kind, currency) VALUES ('acct_platformrefundsdueusdaaaaa', 'platform_refunds_due', 'usd');

ALTER TABLE ledger_entries
  DROP CONSTRAINT ledger_entries_kind_check,
  ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('usage', 'usage_credit', 'outage_credit', 'suspension_credit', 'adjustment_credit',
    'adjustment_debit', 'opening_credit', 'closing_refund'));
CREATE INDEX ledger_closing_refunds ON ledger_entries (id) WHERE kind = 'closing_refund';

-- The balance of a closed tenant stays zero: whoever corrects a balance holds the account, and so does a closing.
CREATE FUNCTION ledger_account_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT FROM accounts JOIN tenants ON tenants.id = accounts.tenant_id
    WHERE accounts.id IN (NEW.debit_account_id, NEW.credit_account_id) AND tenants.status = 'closed') THEN
    RAISE EXCEPTION 'the tenant of the account is closed'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_account_open';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER ledger_account_open BEFORE INSERT ON ledger_entries FOR EACH ROW
  WHEN (NEW.kind IN ('adjustment_credit', 'adjustment_debit', 'opening_credit')) EXECUTE FUNCTION ledger_account_open();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_account_open;

-- One row a refund: why, and to whom it is due.
CREATE TABLE refunds_due (
  entry_id       bigint PRIMARY KEY REFERENCES ledger_entries,
  tenant_id      text NOT NULL REFERENCES tenants,
  account_id     text NOT NULL,
  currency       text NOT NULL,
  amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
  reason         text NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency)
);
CREATE INDEX refunds_due_by_time ON refunds_due (created_at DESC, entry_id DESC);
CREATE TRIGGER refunds_due_immutable BEFORE UPDATE OR DELETE ON refunds_due FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE refunds_due ENABLE ALWAYS TRIGGER refunds_due_immutable;
GRANT SELECT, INSERT ON refunds_due TO gpuaas_app;
