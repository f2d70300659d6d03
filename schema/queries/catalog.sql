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
INSERT INTO sku_prices (id, tenant_id, sku_id, currency, rate_micros_per_hour, valid_from, withdrawn)
VALUES (@id, @tenant_id, @sku_id, @currency, @rate_micros_per_hour, @valid_from, @withdrawn)
ON CONFLICT (tenant_id, sku_id, currency, valid_from) DO NOTHING;

-- The tenant's own price, unless it was withdrawn, and the list price otherwise.
-- name: PriceAt
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from
FROM (
  SELECT DISTINCT ON (tenant_id) id, tenant_id, sku_id, currency, rate_micros_per_hour, valid_from, withdrawn
  FROM sku_prices
  WHERE sku_id = @sku_id AND currency = @currency AND valid_from <= @at AND (tenant_id IS NULL OR tenant_id = @tenant_id)
  ORDER BY tenant_id, valid_from DESC
) AS newest
WHERE NOT withdrawn
ORDER BY tenant_id NULLS LAST
LIMIT 1;
