-- Tenancy: who belongs to which tenant in which role, who is suspended, who operates the platform. A tenant is a person's
-- own or an organisation's; its members hold one role in all of it, and may hold another in single projects
-- (project_members). What a role permits stands in domain/identity and not here.

ALTER TABLE tenants
  ADD COLUMN status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closing', 'closed')),
  ADD COLUMN status_reason  text NOT NULL DEFAULT '',
  ADD COLUMN status_at      timestamptz(3);

-- A service account is a user without a sign-in: limits, ownership and audit rows then need no second kind of actor.
ALTER TABLE users
  ADD COLUMN kind           text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service')),
  ADD COLUMN status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'pending', 'suspended', 'erased')),
  ADD COLUMN status_reason  text NOT NULL DEFAULT '',
  ADD COLUMN status_at      timestamptz(3),
  -- the organisation that the issuer's newest token named; membership by it holds only while it does
  ADD COLUMN org_id         text NOT NULL DEFAULT '';

CREATE TABLE tenant_members (
  tenant_id   text NOT NULL REFERENCES tenants,
  user_id     text NOT NULL REFERENCES users,
  role        text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'billing')),
  -- how they came in: what the issuer's claim gave, the issuer's claim takes away again
  source      text NOT NULL CHECK (source IN ('sign_up', 'organisation', 'invitation', 'operator')),
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX tenant_members_user ON tenant_members (user_id);

-- Until now everybody had a tenant of their own.
INSERT INTO tenant_members (tenant_id, user_id, role, source)
  SELECT users.tenant_id, users.id, 'owner', 'sign_up' FROM users JOIN tenants ON tenants.id = users.tenant_id AND tenants.kind = 'personal';

-- A tenant keeps an owner for as long as it is not closed. Two owners who remove each other at once take turns at the tenant's row.
CREATE FUNCTION tenant_keeps_an_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.role <> 'owner' OR (TG_OP = 'UPDATE' AND NEW.role = 'owner') THEN
    RETURN NULL;
  END IF;
  PERFORM FROM tenants WHERE id = OLD.tenant_id AND status <> 'closed' FOR NO KEY UPDATE;
  IF FOUND AND NOT EXISTS (SELECT FROM tenant_members WHERE tenant_id = OLD.tenant_id AND role = 'owner') THEN
    RAISE EXCEPTION 'the last owner of % cannot be removed', OLD.tenant_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'tenant_members_last_owner';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tenant_members_last_owner AFTER UPDATE OR DELETE ON tenant_members
  DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION tenant_keeps_an_owner();
ALTER TABLE tenant_members ENABLE ALWAYS TRIGGER tenant_members_last_owner;

-- Who operates the platform: by the issuer's role, or appointed here. A row of the issuer's goes when its role goes.
CREATE TABLE platform_admins (
  user_id     text PRIMARY KEY REFERENCES users,
  source      text NOT NULL CHECK (source IN ('issuer', 'appointed')),
  granted_by  text NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now()
);

-- Every replica of the API keeps identities for a moment; it hears of each change at its commit and forgets them.
CREATE FUNCTION tell_identity_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed jsonb := to_jsonb(COALESCE(NEW, OLD));
BEGIN
  PERFORM pg_notify('identity_changed', CASE TG_TABLE_NAME
    WHEN 'tenants' THEN 'tenant ' || (changed ->> 'id')
    WHEN 'users' THEN 'user ' || (changed ->> 'id')
    ELSE 'user ' || (changed ->> 'user_id') END);
  RETURN NULL;
END $$;
CREATE TRIGGER users_told AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION tell_identity_change();
CREATE TRIGGER tenants_told AFTER UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION tell_identity_change();
CREATE TRIGGER tenant_members_told AFTER INSERT OR UPDATE OR DELETE ON tenant_members FOR EACH ROW EXECUTE FUNCTION tell_identity_change();
CREATE TRIGGER project_members_told AFTER INSERT OR UPDATE OR DELETE ON project_members FOR EACH ROW EXECUTE FUNCTION tell_identity_change();
CREATE TRIGGER platform_admins_told AFTER INSERT OR UPDATE OR DELETE ON platform_admins FOR EACH ROW EXECUTE FUNCTION tell_identity_change();

GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_members, platform_admins TO gpuaas_app;
