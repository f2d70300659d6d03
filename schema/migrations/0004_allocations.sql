-- Allocations, their transitions, and the record that deduplicates requests. Written by activities; the arrow
-- table below repeats domain/allocation, and a test holds the two together.

CREATE TABLE allocation_arrows (
  from_state  text NOT NULL,
  to_state    text NOT NULL,
  PRIMARY KEY (from_state, to_state)
);
INSERT INTO allocation_arrows VALUES
  ('requested', 'provisioning'), ('requested', 'failed'), ('requested', 'releasing'),
  ('provisioning', 'active'), ('provisioning', 'failed'), ('provisioning', 'releasing'),
  ('active', 'releasing'),
  ('releasing', 'released'), ('releasing', 'release_failed'),
  ('release_failed', 'releasing');

CREATE TABLE allocations (
  id                     text PRIMARY KEY CHECK (id ~ '^alloc_[a-z2-7]{26}$'),
  tenant_id              text NOT NULL REFERENCES tenants,
  project_id             text NOT NULL,
  user_id                text NOT NULL REFERENCES users,
  account_id             text NOT NULL,
  currency               text NOT NULL,
  name                   text NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
  labels                 jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(labels) = 'object'),
  ssh_keys               text[] NOT NULL DEFAULT '{}',
  sku_id                 text NOT NULL REFERENCES skus,
  price_id               text NOT NULL,
  rate_micros_per_hour   bigint NOT NULL CHECK (rate_micros_per_hour >= 0),
  window_seconds         integer NOT NULL CHECK (window_seconds > 0),
  windows_per_settlement integer NOT NULL CHECK (windows_per_settlement > 0),
  runtime_mode           text NOT NULL CHECK (runtime_mode IN ('agent', 'noop')),
  isolation_model        text NOT NULL CHECK (isolation_model IN ('user-revoke', 'full-reimage')),
  state                  text NOT NULL CHECK (state IN ('requested', 'provisioning', 'active', 'releasing', 'released', 'failed', 'release_failed')),
  version                bigint NOT NULL DEFAULT 1 CHECK (version > 0),
  -- the node in use now, or last; null only when none was ever claimed
  node_id                text,
  generation             bigint,
  username               text NOT NULL DEFAULT '',
  ssh_host               text NOT NULL DEFAULT '',
  ssh_port               integer NOT NULL DEFAULT 0,
  ssh_host_key           text NOT NULL DEFAULT '',
  metered_from           timestamptz(3),
  metered_to             timestamptz(3),
  release_cause          text CHECK (release_cause IN ('tenant', 'admin', 'funds', 'provisioning')),
  failure_code           text NOT NULL DEFAULT '',
  failure_message        text NOT NULL DEFAULT '',
  certificate            jsonb,
  correlation_id         text NOT NULL,
  -- the workflow run this allocation belongs to; a run that finds another's closes
  owner_run_id           text NOT NULL DEFAULT '',
  created_at             timestamptz(3) NOT NULL DEFAULT now(),
  updated_at             timestamptz(3) NOT NULL DEFAULT now(),
  ended_at               timestamptz(3),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, currency) REFERENCES accounts (id, currency),
  FOREIGN KEY (price_id, sku_id, currency, rate_micros_per_hour) REFERENCES sku_prices (id, sku_id, currency, rate_micros_per_hour),
  -- the head of an allocation's usage chain and its account hang on these
  UNIQUE (id, metered_from),
  UNIQUE (id, account_id),
  CHECK (metered_to IS NULL OR metered_from IS NOT NULL),
  CHECK (metered_to >= metered_from),
  CHECK (state <> 'active' OR (metered_from IS NOT NULL AND node_id IS NOT NULL)),
  CHECK ((ended_at IS NOT NULL) = (state IN ('released', 'failed')))
);
CREATE INDEX allocations_by_tenant ON allocations (tenant_id, created_at DESC, id DESC);
CREATE INDEX allocations_by_time ON allocations (created_at DESC, id DESC);
CREATE INDEX allocations_running_by_user ON allocations (user_id) WHERE state NOT IN ('released', 'failed');
CREATE INDEX allocations_running_by_account ON allocations (account_id) WHERE state NOT IN ('released', 'failed');

-- The state machine in the database: no arrow that is not in the table, versions that rise by one with each arrow,
-- and a meter that is set once.
CREATE FUNCTION allocations_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state <> OLD.state AND NOT EXISTS (
    SELECT FROM allocation_arrows WHERE from_state = OLD.state AND to_state = NEW.state) THEN
    RAISE EXCEPTION 'an allocation cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.state <> OLD.state AND NEW.version <> OLD.version + 1 THEN
    RAISE EXCEPTION 'a transition raises the version by one' USING ERRCODE = 'check_violation';
  END IF;
  IF (OLD.metered_from IS NOT NULL AND NEW.metered_from IS DISTINCT FROM OLD.metered_from)
     OR (OLD.metered_to IS NOT NULL AND NEW.metered_to IS DISTINCT FROM OLD.metered_to) THEN
    RAISE EXCEPTION 'the meter of an allocation is set once' USING ERRCODE = 'check_violation';
  END IF;
  IF (NEW.tenant_id, NEW.account_id, NEW.user_id, NEW.price_id, NEW.rate_micros_per_hour, NEW.window_seconds)
     IS DISTINCT FROM (OLD.tenant_id, OLD.account_id, OLD.user_id, OLD.price_id, OLD.rate_micros_per_hour, OLD.window_seconds) THEN
    RAISE EXCEPTION 'what admission pinned does not move' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER allocations_guard BEFORE UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION allocations_guard();

CREATE TABLE allocation_transitions (
  allocation_id  text NOT NULL REFERENCES allocations,
  tenant_id      text NOT NULL REFERENCES tenants,
  version        bigint NOT NULL,
  from_state     text,
  to_state       text NOT NULL,
  at             timestamptz(3) NOT NULL,
  actor_id       text NOT NULL,
  actor_role     text NOT NULL,
  reason         text NOT NULL DEFAULT '',
  node_id        text,
  correlation_id text NOT NULL,
  PRIMARY KEY (allocation_id, version),
  FOREIGN KEY (from_state, to_state) REFERENCES allocation_arrows (from_state, to_state)
);
CREATE TRIGGER allocation_transitions_immutable BEFORE UPDATE OR DELETE ON allocation_transitions
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE allocation_transitions ENABLE ALWAYS TRIGGER allocation_transitions_immutable;

-- Postgres, not Temporal, deduplicates: the row keeps the request's hash and the answer, refusals included.
CREATE TABLE idempotency_records (
  tenant_id      text NOT NULL REFERENCES tenants,
  principal_id   text NOT NULL,
  operation      text NOT NULL,
  key            text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_hash   bytea NOT NULL CHECK (length(request_hash) = 32),
  -- null while the work is in flight
  status         integer,
  headers        jsonb NOT NULL DEFAULT '{}'::jsonb,
  answer         bytea,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  locked_until   timestamptz(3),
  expires_at     timestamptz(3) NOT NULL,
  PRIMARY KEY (tenant_id, principal_id, operation, key)
);
CREATE INDEX idempotency_records_expiry ON idempotency_records (expires_at);

GRANT SELECT ON allocation_arrows TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE ON allocations TO gpuaas_app;
GRANT SELECT, INSERT ON allocation_transitions TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_records TO gpuaas_app;
