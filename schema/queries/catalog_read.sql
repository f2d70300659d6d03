-- name: PricePage
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from, created_at
FROM sku_prices
WHERE sku_id = @sku_id AND (@before_id::text IS NULL OR (valid_from, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY valid_from DESC, id DESC
LIMIT @limit;

-- name: PricePresent
SELECT DISTINCT ON (sku_id) id, sku_id, currency, rate_micros_per_hour, valid_from, created_at
FROM sku_prices
WHERE sku_id = ANY (@sku_ids::text[]) AND currency = @currency AND valid_from <= @at
ORDER BY sku_id, valid_from DESC, id DESC;
