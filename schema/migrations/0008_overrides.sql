-- What holds for one tenant instead of for everybody: policy values and prices.

-- Versions like those of policy_values; a version without a value ends the override.
CREATE TABLE tenant_policy_values (
  tenant_id      text NOT NULL REFERENCES tenants,
  key            text NOT NULL,
  version        bigint NOT NULL CHECK (version > 0),
  value          jsonb,
  reason         text NOT NULL DEFAULT '',
  actor_user_id  text NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key, version)
);
CREATE TRIGGER tenant_policy_values_immutable BEFORE UPDATE OR DELETE ON tenant_policy_values
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE tenant_policy_values ENABLE ALWAYS TRIGGER tenant_policy_values_immutable;
CREATE TRIGGER tenant_policy_values_no_truncate BEFORE TRUNCATE ON tenant_policy_values
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE tenant_policy_values ENABLE ALWAYS TRIGGER tenant_policy_values_no_truncate;
GRANT SELECT, INSERT ON tenant_policy_values TO gpuaas_app;

-- A price with a tenant wins over the list price for that tenant's new allocations, until a later row of the tenant's
-- withdraws it. A list price is replaced and never withdrawn: the SKU is taken off offer instead.
ALTER TABLE sku_prices
  ADD COLUMN tenant_id text REFERENCES tenants,
  ADD COLUMN withdrawn boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT sku_prices_withdrawn CHECK (NOT withdrawn OR (tenant_id IS NOT NULL AND rate_micros_per_hour = 0)),
  DROP CONSTRAINT sku_prices_sku_id_currency_valid_from_key,
  ADD CONSTRAINT sku_prices_one_at_a_time UNIQUE NULLS NOT DISTINCT (tenant_id, sku_id, currency, valid_from);
