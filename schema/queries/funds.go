package queries

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// AccountCostsMoney says whether a meter of the account runs that costs something.
func AccountCostsMoney(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (bool, error) {
	row, err := one[struct{ Costs bool }](ctx, db, "AllocationsCostMoney", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	return row.Costs, err
}
