package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// SKU is one kind of node that can be rented.
type SKU struct {
	ID             id.SKU
	Name           string
	GPUModel       string `db:"gpu_model"`
	GPUCount       int    `db:"gpu_count"`
	GPUMemoryBytes int64  `db:"gpu_memory_bytes"`
	CPUModel       string `db:"cpu_model"`
	CPUCount       int    `db:"cpu_count"`
	MemoryBytes    int64
	DiskBytes      int64
	OSImage        string `db:"os_image"`
	CUDAVersion    string `db:"cuda_version"`
	Location       string
	// Offered is false once an operator withdrew it; running allocations keep it.
	Offered   bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (s SKU) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": s.ID, "name": s.Name, "gpu_model": s.GPUModel, "gpu_count": s.GPUCount, "gpu_memory_bytes": s.GPUMemoryBytes,
		"cpu_model": s.CPUModel, "cpu_count": s.CPUCount, "memory_bytes": s.MemoryBytes, "disk_bytes": s.DiskBytes,
		"os_image": s.OSImage, "cuda_version": s.CUDAVersion, "location": s.Location, "offered": s.Offered,
	}
}

// GetSKU reads one SKU; pgx.ErrNoRows when there is none.
func GetSKU(ctx context.Context, db DB, sku id.SKU) (SKU, error) {
	return one[SKU](ctx, db, "SKUGet", pgx.NamedArgs{"id": sku})
}

// SKUFilter selects a page of SKUs, newest first. IncludeWithdrawn also lists those no longer offered.
type SKUFilter struct {
	IncludeWithdrawn bool
	BeforeTime       time.Time
	BeforeID         id.SKU
	Limit            int
}

// ListSKUs reads one page.
func ListSKUs(ctx context.Context, db DB, filter SKUFilter) ([]SKU, error) {
	return many[SKU](ctx, db, "SKUList", pgx.NamedArgs{
		"include_withdrawn": filter.IncludeWithdrawn, "before_time": filter.BeforeTime, "before_id": optional(filter.BeforeID), "limit": filter.Limit,
	})
}

// InsertSKU adds a SKU; false when the id is taken.
func InsertSKU(ctx context.Context, db DB, sku SKU) (bool, error) {
	inserted, err := execute(ctx, db, "SKUInsert", sku.arguments())
	return inserted == 1, err
}

// UpdateSKU changes what a SKU says; false when there is none.
func UpdateSKU(ctx context.Context, db DB, sku SKU) (bool, error) {
	changed, err := execute(ctx, db, "SKUUpdate", sku.arguments())
	return changed == 1, err
}

// Price is one insert-only price row of a SKU.
type Price struct {
	ID                id.Price
	SKU               id.SKU `db:"sku_id"`
	Currency          string
	RateMicrosPerHour money.Micros
	ValidFrom         time.Time
}

// InsertPrice adds a list price; false when the SKU already has one from that instant on.
func InsertPrice(ctx context.Context, db DB, price Price) (bool, error) {
	return insertPrice(ctx, db, nil, price, false)
}

// InsertTenantPrice adds a price for one tenant, or withdraws the one it has; false when there is one from that instant on.
func InsertTenantPrice(ctx context.Context, db DB, tenant id.Tenant, price Price, withdrawn bool) (bool, error) {
	return insertPrice(ctx, db, &tenant, price, withdrawn)
}

func insertPrice(ctx context.Context, db DB, tenant *id.Tenant, price Price, withdrawn bool) (bool, error) {
	inserted, err := execute(ctx, db, "PriceInsert", pgx.NamedArgs{
		"tenant_id": tenant, "withdrawn": withdrawn,
		"id": price.ID, "sku_id": price.SKU, "currency": price.Currency, "rate_micros_per_hour": int64(price.RateMicrosPerHour), "valid_from": price.ValidFrom,
	})
	return inserted == 1, err
}

// PriceAt is the price that is valid for a tenant at an instant; pgx.ErrNoRows when the SKU has none in that currency.
func PriceAt(ctx context.Context, db DB, tenant id.Tenant, sku id.SKU, currency string, at time.Time) (Price, error) {
	return one[Price](ctx, db, "PriceAt", pgx.NamedArgs{"tenant_id": tenant, "sku_id": sku, "currency": currency, "at": at})
}
