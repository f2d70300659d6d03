-- The webhooks of customers: where a tenant wants to be told of its events, what is to be told, and every attempt to tell it.

CREATE TABLE webhook_endpoints (
  id                   text PRIMARY KEY CHECK (id ~ '^hook_[a-z2-7]{26}$'),
  tenant_id            text NOT NULL REFERENCES tenants,
  url                  text NOT NULL CHECK (octet_length(url) <= 2000),
  description          text NOT NULL DEFAULT '',
  -- empty is every type, those that do not exist yet among them
  event_types          text[] NOT NULL DEFAULT '{}',
  -- sealed under a key that is not in the database, bound to the endpoint (internal/webhook); the hash finds a repeated request
  secret               bytea NOT NULL,
  secret_sha256        bytea NOT NULL,
  previous_secret      bytea,
  previous_expires_at  timestamptz(3),
  disabled_at          timestamptz(3),
  disabled_because     text NOT NULL DEFAULT '' CHECK (disabled_because IN ('', 'asked', 'failing', 'gone')),
  -- attempts that failed since the last one that did not
  failures             bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
  failing_since        timestamptz(3),
  created_by           text NOT NULL,
  created_at           timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  updated_at           timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- what is deleted leaves its id, so that a repeated request is answered as the first
  deleted_at           timestamptz(3),
  UNIQUE (id, tenant_id),
  CONSTRAINT webhook_endpoints_disabled CHECK ((disabled_at IS NULL) = (disabled_because = '')),
  CONSTRAINT webhook_endpoints_deleted CHECK (deleted_at IS NULL OR (url = '' AND description = '' AND secret = '' AND previous_secret IS NULL)),
  CONSTRAINT webhook_endpoints_previous CHECK ((previous_secret IS NULL) = (previous_expires_at IS NULL)),
  CONSTRAINT webhook_endpoints_failing CHECK ((failures = 0) = (failing_since IS NULL))
);
CREATE INDEX webhook_endpoints_of_tenant ON webhook_endpoints (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- One row an endpoint and event. The body is kept as it is signed: every attempt sends the same bytes.
CREATE TABLE webhook_deliveries (
  id               text PRIMARY KEY CHECK (id ~ '^dlv_[a-z2-7]{26}$'),
  tenant_id        text NOT NULL,
  endpoint_id      text NOT NULL,
  event_id         uuid NOT NULL,
  event_type       text NOT NULL,
  body             text NOT NULL,
  test             boolean NOT NULL DEFAULT false,
  state            text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'skipped')),
  -- a round is a series of attempts; somebody who asks for a delivery again begins the next
  round            integer NOT NULL DEFAULT 1 CHECK (round > 0),
  round_at         timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- when the workflow of the round was begun
  begun_at         timestamptz(3),
  attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_attempt_at  timestamptz(3),
  created_at       timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  ended_at         timestamptz(3),
  UNIQUE (endpoint_id, event_id),
  UNIQUE (id, tenant_id),
  FOREIGN KEY (endpoint_id, tenant_id) REFERENCES webhook_endpoints (id, tenant_id) ON DELETE CASCADE,
  CONSTRAINT webhook_deliveries_ended CHECK ((state = 'pending') = (ended_at IS NULL))
);
CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint_id, created_at DESC, id DESC);
CREATE INDEX webhook_deliveries_not_begun ON webhook_deliveries (round_at) WHERE state = 'pending' AND begun_at IS NULL;
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE webhook_attempts (
  delivery_id  text NOT NULL,
  tenant_id    text NOT NULL,
  round        integer NOT NULL,
  number       integer NOT NULL CHECK (number > 0),
  outcome      text NOT NULL CHECK (outcome IN ('accepted', 'rejected', 'redirected', 'timed_out', 'unresolved', 'address_refused', 'scheme_refused',
    'unreachable', 'tls_failed')),
  status_code  integer,
  latency_ms   bigint NOT NULL CHECK (latency_ms >= 0),
  detail       text NOT NULL DEFAULT '',
  response     text NOT NULL DEFAULT '',
  started_at   timestamptz(3) NOT NULL,
  PRIMARY KEY (delivery_id, round, number),
  FOREIGN KEY (delivery_id, tenant_id) REFERENCES webhook_deliveries (id, tenant_id) ON DELETE CASCADE
);

-- What the platform tells of them itself.
ALTER TABLE outbox DROP CONSTRAINT outbox_stream_check,
  ADD CONSTRAINT outbox_stream_check CHECK (stream IN ('BILLING', 'PAYMENTS', 'PROVISIONING', 'WEBHOOKS', 'DLQ'));

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_endpoints, webhook_deliveries TO gpuaas_app;
GRANT SELECT, INSERT, DELETE ON webhook_attempts TO gpuaas_app;
