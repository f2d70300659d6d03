-- What can be rented: SKUs, and their prices as insert-only rows. A price holds for allocations admitted while
-- it was the newest; a new one never touches a running allocation.

CREATE TABLE skus (
  id               text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  gpu_model        text NOT NULL CHECK (gpu_model <> ''),
  gpu_count        integer NOT NULL CHECK (gpu_count BETWEEN 1 AND 64),
  gpu_memory_bytes bigint NOT NULL CHECK (gpu_memory_bytes > 0),
  cpu_model        text NOT NULL,
  cpu_count        integer NOT NULL CHECK (cpu_count > 0),
  memory_bytes     bigint NOT NULL CHECK (memory_bytes > 0),
  disk_bytes       bigint NOT NULL CHECK (disk_bytes > 0),
  os_image         text NOT NULL,
  cuda_version     text NOT NULL,
  location         text NOT NULL CHECK (location <> ''),
  offered          boolean NOT NULL DEFAULT true,
  created_at       timestamptz(3) NOT NULL DEFAULT now(),
  updated_at       timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE sku_prices (
  id                   text PRIMARY KEY CHECK (id ~ '^price_[a-z2-7]{26}$'),
  sku_id               text NOT NULL REFERENCES skus,
  currency             text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
  -- nine thousand million of a currency an hour is beyond any node; the bound keeps JSON integers exact
  rate_micros_per_hour bigint NOT NULL CHECK (rate_micros_per_hour BETWEEN 0 AND 9007199254740991),
  valid_from           timestamptz(3) NOT NULL,
  created_at           timestamptz(3) NOT NULL DEFAULT now(),
  UNIQUE (sku_id, currency, valid_from),
  UNIQUE (id, sku_id, currency, rate_micros_per_hour)
);
CREATE TRIGGER sku_prices_immutable BEFORE UPDATE OR DELETE ON sku_prices
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE sku_prices ENABLE ALWAYS TRIGGER sku_prices_immutable;
CREATE TRIGGER sku_prices_no_truncate BEFORE TRUNCATE ON sku_prices
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE sku_prices ENABLE ALWAYS TRIGGER sku_prices_no_truncate;

GRANT SELECT, INSERT, UPDATE ON skus TO gpuaas_app;
GRANT SELECT, INSERT ON sku_prices TO gpuaas_app;
