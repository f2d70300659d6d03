-- name: PricePage
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from, created_at, withdrawn
FROM sku_prices
WHERE sku_id = @sku_id AND tenant_id IS NULL
  AND (@before_id::text IS NULL OR (valid_from, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY valid_from DESC, id DESC
LIMIT @limit;

-- name: TenantPricePage
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from, created_at, withdrawn
FROM sku_prices
WHERE tenant_id = @tenant_id AND (@before_id::text IS NULL OR (valid_from, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY valid_from DESC, id DESC
LIMIT @limit;

-- The tenant's own price, unless it was withdrawn, and the list price otherwise.
-- name: PricePresent
SELECT DISTINCT ON (sku_id) id, sku_id, currency, rate_micros_per_hour, valid_from, created_at, withdrawn
FROM (
  SELECT DISTINCT ON (sku_id, tenant_id) id, tenant_id, sku_id, currency, rate_micros_per_hour, valid_from, created_at, withdrawn
  FROM sku_prices
  WHERE sku_id = ANY (@sku_ids::text[]) AND currency = @currency AND valid_from <= @at AND (tenant_id IS NULL OR tenant_id = @tenant_id)
  ORDER BY sku_id, tenant_id, valid_from DESC, id DESC
) AS newest
WHERE NOT withdrawn
ORDER BY sku_id, tenant_id NULLS LAST;
