-- What a fresh installation offers, so that the first allocation works: two SKUs with a price each. Idempotent:
-- a second run changes nothing, and nothing an operator changed since is touched.

INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location) VALUES
  ('h100-8x', '8 × NVIDIA H100 SXM5', 'NVIDIA H100 80GB HBM3', 8, 85899345920, '2 × Intel Xeon Platinum 8480C', 112, 2199023255552, 30786325577728, 'ubuntu-24.04', '12.8', 'dev-1'),
  ('a100-8x', '8 × NVIDIA A100 SXM4', 'NVIDIA A100-SXM4-80GB', 8, 85899345920, '2 × AMD EPYC 7742', 128, 2199023255552, 15393162788864, 'ubuntu-24.04', '12.8', 'dev-1')
ON CONFLICT (id) DO NOTHING;

INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES
  ('price_seedhaaaaaaaaaaaaaaaaaaaaa', 'h100-8x', 'usd', 23920000, '2026-01-01T00:00:00Z'),
  ('price_seedaaaaaaaaaaaaaaaaaaaaaa', 'a100-8x', 'usd', 14320000, '2026-01-01T00:00:00Z')
ON CONFLICT (id) DO NOTHING;
