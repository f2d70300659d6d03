package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	windowSeconds = 60
	rate          = money.Micros(23_920_000)
)

// derived is a stable id: the benchmark makes no randomness.
func derived[K id.Kind](name string, n int) K {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s/%d", name, n)))
	return id.New[K]([16]byte(sum[:16]))
}

// makeMeters fills a fresh database with tenants, accounts and active allocations, as the owner.
func makeMeters(ctx context.Context, owner *pgxpool.Pool, accounts, allocations int, anchor time.Time) ([]workflows.Meter, error) {
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ('bench', 'bench', 'gpu', 1, 1, 'cpu', 1, 1, 1, 'os', 'cuda', 'here')`)
	price := derived[id.Price]("price", 0)
	batch.Queue(`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES ($1, 'bench', 'usd', $2, now())`, price, int64(rate))
	for n := range accounts {
		tenant := derived[id.Tenant]("tenant", n)
		batch.Queue(`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'bench')`, tenant)
		batch.Queue(`INSERT INTO users (id, tenant_id, issuer, subject, username) VALUES ($1, $2, 'bench', $3, 'bench')`, derived[id.User]("user", n), tenant, fmt.Sprint(n))
		batch.Queue(`INSERT INTO projects (id, tenant_id, name, is_default) VALUES ($1, $2, 'default', true)`, derived[id.Project]("project", n), tenant)
		batch.Queue(`INSERT INTO accounts (id, kind, tenant_id, currency) VALUES ($1, 'tenant', $2, 'usd')`, derived[id.Account]("account", n), tenant)
	}
	meters := make([]workflows.Meter, allocations)
	for i := range meters {
		n := i % accounts
		meters[i] = workflows.Meter{
			AllocationID: derived[id.Allocation]("allocation", i), TenantID: derived[id.Tenant]("tenant", n), AccountID: derived[id.Account]("account", n),
			Currency: "usd", RateMicrosPerHour: rate, WindowSeconds: windowSeconds, Anchor: anchor, CorrelationID: "bench",
		}
		batch.Queue(`INSERT INTO allocations (id, tenant_id, project_id, user_id, account_id, currency, name, sku_id, price_id, rate_micros_per_hour,
			window_seconds, windows_per_settlement, runtime_mode, isolation_model, state, node_id, metered_from, correlation_id)
			VALUES ($1, $2, $3, $4, $5, 'usd', 'bench', 'bench', $6, $7, $8, 1, 'noop', 'user-revoke', 'active', 'node', $9, 'bench')`,
			meters[i].AllocationID, meters[i].TenantID, derived[id.Project]("project", n), derived[id.User]("user", n), meters[i].AccountID,
			price, int64(rate), windowSeconds, anchor)
	}
	if err := owner.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("fill the database: %w", err)
	}
	if _, err := owner.Exec(ctx, `ANALYZE`); err != nil {
		return nil, err
	}
	return meters, nil
}
