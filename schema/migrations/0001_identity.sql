-- Who there is: tenants, users, projects, members and ledger accounts. Personal data (names, addresses)
-- lives in users and tenants alone, so that it can be erased; everything else holds ids.

DO $$
BEGIN
  CREATE ROLE gpuaas_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- roles belong to the cluster: another instance made it
END $$;

CREATE TABLE tenants (
  id          text PRIMARY KEY CHECK (id ~ '^tenant_[a-z2-7]{26}$'),
  kind        text NOT NULL CHECK (kind IN ('personal', 'organisation')),
  org_id      text UNIQUE,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  CHECK ((kind = 'organisation') = (org_id IS NOT NULL))
);

CREATE TABLE users (
  id          text PRIMARY KEY CHECK (id ~ '^user_[a-z2-7]{26}$'),
  tenant_id   text NOT NULL REFERENCES tenants,
  issuer      text NOT NULL CHECK (issuer <> ''),
  subject     text NOT NULL CHECK (subject <> ''),
  username    text NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (issuer, subject)
);
CREATE INDEX users_tenant ON users (tenant_id);
CREATE INDEX users_username ON users (username);

CREATE TABLE projects (
  id          text PRIMARY KEY CHECK (id ~ '^proj_[a-z2-7]{26}$'),
  tenant_id   text NOT NULL REFERENCES tenants,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  is_default  boolean NOT NULL DEFAULT false,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (id, tenant_id),
  UNIQUE (tenant_id, name)
);
CREATE UNIQUE INDEX projects_one_default ON projects (tenant_id) WHERE is_default;

CREATE TABLE project_members (
  tenant_id   text NOT NULL REFERENCES tenants,
  project_id  text NOT NULL,
  user_id     text NOT NULL REFERENCES users,
  role        text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'billing')),
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, user_id),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id)
);
CREATE INDEX project_members_user ON project_members (user_id);

-- Ledger accounts. A tenant's has a tenant; the platform's have none. One currency an account, for ever.
CREATE TABLE accounts (
  id          text PRIMARY KEY CHECK (id ~ '^acct_[a-z2-7]{26}$'),
  kind        text NOT NULL CHECK (kind IN ('tenant', 'platform_revenue', 'platform_credit')),
  tenant_id   text REFERENCES tenants,
  currency    text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (id, currency),
  UNIQUE (id, tenant_id),
  CHECK ((kind = 'tenant') = (tenant_id IS NOT NULL))
);
CREATE UNIQUE INDEX accounts_one_per_tenant ON accounts (tenant_id, currency) WHERE kind = 'tenant';
CREATE UNIQUE INDEX accounts_one_per_platform_kind ON accounts (kind, currency) WHERE kind <> 'tenant';

INSERT INTO accounts (id, kind, currency) VALUES
  ('acct_platformrevenueusdaaaaaaaa', 'platform_revenue', 'usd'),
  ('acct_platformcreditusdaaaaaaaaa', 'platform_credit', 'usd');

GRANT SELECT, INSERT, UPDATE ON tenants, users, projects TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON project_members TO gpuaas_app;
-- UPDATE on accounts is what SELECT … FOR NO KEY UPDATE asks for; the trigger refuses a real one.
GRANT SELECT, INSERT, UPDATE ON accounts TO gpuaas_app;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% on % is refused: rows of this table are never changed', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER accounts_immutable BEFORE UPDATE OR DELETE ON accounts
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE accounts ENABLE ALWAYS TRIGGER accounts_immutable;
