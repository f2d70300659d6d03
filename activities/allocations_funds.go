package activities

import (
	"context"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// coversRunway refuses unless balance − accrued unsettled ≥ runway × (rates of all non-terminal allocations of the
// account + this one). It holds only under the account's lock.
func (a admission) coversRunway(ctx context.Context, account queries.Account, price queries.Price, runway time.Duration) error {
	running, err := queries.RunningByAccount(ctx, a.tx, a.in.Principal.TenantID, account.ID)
	if err != nil {
		return err
	}
	// In this order: a window posted between the two statements counts twice, which may refuse at the edge, and
	// never not at all, which would admit what nobody can pay.
	accrued, err := a.accrued(ctx, running)
	if err != nil {
		return err
	}
	balance, err := queries.Balance(ctx, a.tx, account.ID)
	if err != nil {
		return err
	}
	rates := price.RateMicrosPerHour
	for _, one := range running {
		rates += one.RateMicrosPerHour
	}
	required, err := billing.Charge(rates, runway)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "The rates of the account's allocations add up to more than the ledger holds.")
	}
	available := balance - accrued
	if available >= required {
		return nil
	}
	return fault.New(fault.InsufficientBalance, "").With(map[string]any{
		"shortfall_micros": required - available, "required_micros": required, "available_micros": available,
		"currency": account.Currency, "runway_seconds": int64(runway / time.Second),
	})
}

// accrued is what the account's meters have run up and nobody posted yet.
func (a admission) accrued(ctx context.Context, running []queries.Running) (money.Micros, error) {
	var metered []id.Allocation
	for _, one := range running {
		if one.MeteredFrom != nil {
			metered = append(metered, one.ID)
		}
	}
	if len(metered) == 0 {
		return 0, nil
	}
	postedTo, err := queries.LastPostedEnds(ctx, a.tx, metered)
	if err != nil {
		return 0, err
	}
	var total money.Micros
	for _, one := range running {
		if one.MeteredFrom == nil {
			continue
		}
		from, to := *one.MeteredFrom, a.now
		posted := postedTo[one.ID]
		if posted.Settled {
			continue
		}
		if posted.PostedTo != nil {
			from = *posted.PostedTo
		}
		if one.MeteredTo != nil {
			to = *one.MeteredTo
		}
		if !to.After(from) {
			continue
		}
		amount, err := billing.Period{Start: from, End: to}.Amount(one.RateMicrosPerHour, *one.MeteredFrom)
		if err != nil {
			return 0, err
		}
		total += amount
	}
	return total, nil
}

// meterChanged tells the account's Funds that a meter of it started or stopped. It runs after the change was committed and is part
// of its step, so that a step which could not tell is made again. An empty account is read from the allocation.
func (a *Allocations) meterChanged(ctx context.Context, tenant id.Tenant, allocationID id.Allocation, account id.Account, because, correlation string) error {
	if a.Funds == nil {
		return nil
	}
	if account == "" {
		row, err := queries.GetAllocation(ctx, a.Pool, tenant, allocationID)
		if err != nil {
			return err
		}
		account = row.AccountID
	}
	return a.Funds.tellOf(ctx, tenant, workflows.TellFundsIn{AccountID: account, Because: because, CorrelationID: correlation})
}
