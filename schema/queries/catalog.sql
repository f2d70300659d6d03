-- name: SKUGet
SELECT id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location, offered, created_at, updated_at
FROM skus
WHERE id = @id;

-- name: SKUList
SELECT id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location, offered, created_at, updated_at
FROM skus
WHERE (offered OR @include_withdrawn::boolean)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: SKUInsert
INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location, offered)
VALUES (@id, @name, @gpu_model, @gpu_count, @gpu_memory_bytes, @cpu_model, @cpu_count, @memory_bytes, @disk_bytes, @os_image, @cuda_version, @location, @offered)
ON CONFLICT DO NOTHING;

-- name: SKUUpdate
UPDATE skus
SET name = @name, gpu_model = @gpu_model, gpu_count = @gpu_count, gpu_memory_bytes = @gpu_memory_bytes, cpu_model = @cpu_model, cpu_count = @cpu_count,
    memory_bytes = @memory_bytes, disk_bytes = @disk_bytes, os_image = @os_image, cuda_version = @cuda_version, location = @location, offered = @offered,
    updated_at = now()
WHERE id = @id;

-- name: PriceInsert
INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from)
VALUES (@id, @sku_id, @currency, @rate_micros_per_hour, @valid_from)
ON CONFLICT (sku_id, currency, valid_from) DO NOTHING;

-- name: PriceAt
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from
FROM sku_prices
WHERE sku_id = @sku_id AND currency = @currency AND valid_from <= @at
ORDER BY valid_from DESC
LIMIT 1;

-- name: PriceList
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from
FROM sku_prices
WHERE sku_id = @sku_id
ORDER BY valid_from DESC, id DESC
LIMIT @limit;

-- name: PriceCurrentAll
SELECT DISTINCT ON (sku_id, currency) id, sku_id, currency, rate_micros_per_hour, valid_from
FROM sku_prices
WHERE valid_from <= @at
ORDER BY sku_id, currency, valid_from DESC;
