package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// PriceRow is one price of a SKU with the instant it was added.
type PriceRow struct {
	ID                id.Price
	SKU               id.SKU `db:"sku_id"`
	Currency          string
	RateMicrosPerHour money.Micros
	ValidFrom         time.Time
	CreatedAt         time.Time
	// Withdrawn says that from then on a tenant has no price of its own; never true of a list price.
	Withdrawn bool
}

// PricePage selects a page of a SKU's list prices, the newest valid_from first.
type PricePage struct {
	SKU        id.SKU
	BeforeTime time.Time
	BeforeID   id.Price
	Limit      int
}

// ReadPrices reads one page.
func ReadPrices(ctx context.Context, db DB, page PricePage) ([]PriceRow, error) {
	return many[PriceRow](ctx, db, "PricePage", pgx.NamedArgs{
		"sku_id": page.SKU, "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// TenantPricePage selects a page of the prices that a tenant had and has for itself, the newest valid_from first.
type TenantPricePage struct {
	Tenant     id.Tenant
	BeforeTime time.Time
	BeforeID   id.Price
	Limit      int
}

// ReadTenantPrices reads one page.
func ReadTenantPrices(ctx context.Context, db DB, page TenantPricePage) ([]PriceRow, error) {
	return many[PriceRow](ctx, db, "TenantPricePage", pgx.NamedArgs{
		"tenant_id": page.Tenant, "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// PresentPrices reads the price of each of the SKUs that is valid for a tenant at an instant; a SKU without one is absent.
func PresentPrices(ctx context.Context, db DB, tenant id.Tenant, skus []id.SKU, currency string, at time.Time) (map[id.SKU]PriceRow, error) {
	rows, err := many[PriceRow](ctx, db, "PricePresent", pgx.NamedArgs{"tenant_id": tenant, "sku_ids": texts(skus), "currency": currency, "at": at})
	if err != nil {
		return nil, err
	}
	prices := make(map[id.SKU]PriceRow, len(rows))
	for _, row := range rows {
		prices[row.SKU] = row
	}
	return prices, nil
}

// texts is the ids as SQL's text[].
func texts[Text ~string](ids []Text) []string {
	plain := make([]string, len(ids))
	for i, one := range ids {
		plain[i] = string(one)
	}
	return plain
}
