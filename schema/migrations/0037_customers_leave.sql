-- What the payment provider knows of a tenant (the address that somebody gave it, their cards) is personal, so that an erasure here is to be
-- one there too. It is asked for outside of the transaction: until it has said so, the row says which customer is still to be forgotten.
ALTER TABLE stripe_customers ADD COLUMN leaving_at timestamptz(3);
CREATE INDEX stripe_customers_leaving ON stripe_customers (leaving_at) WHERE leaving_at IS NOT NULL;
GRANT UPDATE (leaving_at) ON stripe_customers TO gpuaas_app;
