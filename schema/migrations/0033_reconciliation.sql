-- Reconciliation: what was compared, what does not fit, and what was done about it.

CREATE TABLE reconciliation_runs (
  id            text PRIMARY KEY CHECK (id ~ '^recon_[a-z2-7]{26}$'),
  -- who asked for it; null for the schedule
  asked_by      text,
  -- everything there ever was, and not only what may have changed
  whole         boolean NOT NULL,
  state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'incomplete')),
  -- one element a check: its name, how many objects were examined, how many findings were seen, why it could not be made
  checks        jsonb NOT NULL DEFAULT '[]'::jsonb CHECK (jsonb_typeof(checks) = 'array'),
  opened        bigint NOT NULL DEFAULT 0,
  resolved      bigint NOT NULL DEFAULT 0,
  -- entries up to this id were examined
  entries_up_to bigint NOT NULL DEFAULT 0,
  started_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  ended_at      timestamptz(3),
  CONSTRAINT reconciliation_runs_ended CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX reconciliation_runs_by_time ON reconciliation_runs (started_at DESC, id DESC);

CREATE TABLE reconciliation_findings (
  id              text PRIMARY KEY CHECK (id ~ '^find_[a-z2-7]{26}$'),
  check_name      text NOT NULL,
  kind            text NOT NULL,
  subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  sentence        text NOT NULL,
  detail          jsonb NOT NULL CHECK (jsonb_typeof(detail) = 'object'),
  account_id      text REFERENCES accounts,
  currency        text,
  -- what the account is owed: positive has too little, negative too much
  amount_micros   bigint NOT NULL DEFAULT 0,
  -- how it can be corrected, if it can
  manner          text CHECK (manner IN ('adjustment', 'deposit')),
  state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved', 'dismissed')),
  dismissed_by    text,
  dismissed_reason text NOT NULL DEFAULT '',
  first_run_id    text NOT NULL REFERENCES reconciliation_runs,
  last_run_id     text NOT NULL REFERENCES reconciliation_runs,
  -- the run that saw it no more
  resolved_run_id text REFERENCES reconciliation_runs,
  first_seen_at   timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  last_seen_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  resolved_at     timestamptz(3),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT reconciliation_findings_account CHECK ((account_id IS NULL) = (currency IS NULL)),
  CONSTRAINT reconciliation_findings_manner CHECK (manner IS NULL OR (account_id IS NOT NULL AND amount_micros <> 0 AND (manner <> 'deposit' OR amount_micros > 0))),
  CONSTRAINT reconciliation_findings_resolved CHECK ((state = 'resolved') = (resolved_at IS NOT NULL) AND (resolved_at IS NULL) = (resolved_run_id IS NULL)),
  CONSTRAINT reconciliation_findings_dismissed CHECK (state <> 'dismissed' OR dismissed_by IS NOT NULL)
);
-- The same is found once, however often it is seen, until it is gone.
CREATE UNIQUE INDEX reconciliation_findings_once ON reconciliation_findings (kind, subject) WHERE state <> 'resolved';
CREATE INDEX reconciliation_findings_by_time ON reconciliation_findings (first_seen_at DESC, id DESC);
CREATE INDEX reconciliation_findings_standing ON reconciliation_findings (check_name) WHERE state <> 'resolved';
CREATE INDEX reconciliation_findings_of_subject ON reconciliation_findings (subject);

-- What was found stays found, and what is resolved stays so: when it comes back it is found anew.
CREATE FUNCTION reconciliation_findings_are_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state = 'resolved' OR (NEW.id, NEW.check_name, NEW.kind, NEW.subject, NEW.first_run_id, NEW.first_seen_at)
      IS DISTINCT FROM (OLD.id, OLD.check_name, OLD.kind, OLD.subject, OLD.first_run_id, OLD.first_seen_at) THEN
    RAISE EXCEPTION 'what the finding % was does not change', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'reconciliation_findings_are_facts';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER reconciliation_findings_are_facts BEFORE UPDATE ON reconciliation_findings FOR EACH ROW EXECUTE FUNCTION reconciliation_findings_are_facts();
ALTER TABLE reconciliation_findings ENABLE ALWAYS TRIGGER reconciliation_findings_are_facts;
CREATE TRIGGER reconciliation_findings_stay BEFORE DELETE ON reconciliation_findings FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE reconciliation_findings ENABLE ALWAYS TRIGGER reconciliation_findings_stay;

CREATE TABLE reconciliation_corrections (
  id              text PRIMARY KEY CHECK (id ~ '^corr_[a-z2-7]{26}$'),
  finding_id      text NOT NULL REFERENCES reconciliation_findings,
  subject         text NOT NULL,
  manner          text NOT NULL CHECK (manner IN ('adjustment', 'deposit')),
  account_id      text NOT NULL REFERENCES accounts,
  currency        text NOT NULL,
  -- as the account sees it
  amount_micros   bigint NOT NULL CHECK (amount_micros <> 0),
  reason          text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
  second_approver boolean NOT NULL,
  proposed_by     text NOT NULL,
  proposed_at     timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  approved_by     text,
  posted_at       timestamptz(3),
  entry_id        bigint UNIQUE REFERENCES ledger_entries,
  -- a proposal that another one took the place of
  withdrawn_at    timestamptz(3),
  CONSTRAINT reconciliation_corrections_two_people CHECK (NOT second_approver OR approved_by <> proposed_by),
  CONSTRAINT reconciliation_corrections_posted CHECK ((entry_id IS NULL) = (approved_by IS NULL) AND (entry_id IS NULL) = (posted_at IS NULL)),
  CONSTRAINT reconciliation_corrections_withdrawn CHECK (withdrawn_at IS NULL OR entry_id IS NULL),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency)
);
CREATE UNIQUE INDEX reconciliation_corrections_once ON reconciliation_corrections (finding_id) WHERE withdrawn_at IS NULL;
CREATE INDEX reconciliation_corrections_of_subject ON reconciliation_corrections (subject) WHERE entry_id IS NOT NULL;
CREATE INDEX reconciliation_corrections_by_time ON reconciliation_corrections (proposed_at DESC, id DESC);

-- A proposal does not change, and what was posted is the entry of its own amount.
CREATE FUNCTION reconciliation_corrections_are_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.entry_id IS NOT NULL OR OLD.withdrawn_at IS NOT NULL OR
      (NEW.id, NEW.finding_id, NEW.subject, NEW.manner, NEW.account_id, NEW.currency, NEW.amount_micros, NEW.reason, NEW.second_approver, NEW.proposed_by, NEW.proposed_at)
      IS DISTINCT FROM (OLD.id, OLD.finding_id, OLD.subject, OLD.manner, OLD.account_id, OLD.currency, OLD.amount_micros, OLD.reason, OLD.second_approver, OLD.proposed_by, OLD.proposed_at) THEN
    RAISE EXCEPTION 'what the correction % is does not change', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'reconciliation_corrections_are_facts';
  END IF;
  IF NEW.entry_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM ledger_entries WHERE id = NEW.entry_id AND amount_micros = abs(NEW.amount_micros)
        AND CASE WHEN NEW.amount_micros > 0 THEN credit_account_id ELSE debit_account_id END = NEW.account_id) THEN
    RAISE EXCEPTION 'the entry is not that of the correction %', OLD.id USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'reconciliation_corrections_entry';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER reconciliation_corrections_are_facts BEFORE UPDATE ON reconciliation_corrections FOR EACH ROW EXECUTE FUNCTION reconciliation_corrections_are_facts();
ALTER TABLE reconciliation_corrections ENABLE ALWAYS TRIGGER reconciliation_corrections_are_facts;
CREATE TRIGGER reconciliation_corrections_stay BEFORE DELETE ON reconciliation_corrections FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE reconciliation_corrections ENABLE ALWAYS TRIGGER reconciliation_corrections_stay;

GRANT SELECT, INSERT, UPDATE ON reconciliation_runs, reconciliation_findings, reconciliation_corrections TO gpuaas_app;

-- What ended lately, in the order in which it is looked through.
CREATE INDEX allocations_open ON allocations (id) WHERE ended_at IS NULL;
CREATE INDEX allocations_ended ON allocations (ended_at);
CREATE INDEX payments_credited_by_time ON payments (credited_at) WHERE credited_at IS NOT NULL;
