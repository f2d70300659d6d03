package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Budget is the newest version of what a project may spend.
type Budget struct {
	ProjectID      id.Project
	Version        int64
	AmountMicros   money.Micros
	Period         billing.BudgetPeriod
	WarningPercent int64
	CreatedAt      time.Time
}

// Budgets lists the budgets in force of a tenant's projects, or of the one that is named.
func Budgets(ctx context.Context, db DB, tenant id.Tenant, project id.Project) ([]Budget, error) {
	return many[Budget](ctx, db, "BudgetNewest", pgx.NamedArgs{"tenant_id": tenant, "project_id": optional(project)})
}

// NewBudget is a version to be; without an amount it ends the budget.
type NewBudget struct {
	TenantID       id.Tenant
	ProjectID      id.Project
	AmountMicros   *money.Micros
	Period         billing.BudgetPeriod
	WarningPercent int64
	ActorUserID    string
}

// InsertBudget adds a version.
func InsertBudget(ctx context.Context, db DB, budget NewBudget) error {
	_, err := execute(ctx, db, "BudgetInsert", pgx.NamedArgs{
		"tenant_id": budget.TenantID, "project_id": budget.ProjectID, "amount_micros": budget.AmountMicros, "period": string(budget.Period),
		"warning_percent": budget.WarningPercent, "actor_user_id": budget.ActorUserID,
	})
	return err
}

// JudgedBudget is a budget with what it means now.
type JudgedBudget struct {
	Budget
	Span    billing.Period
	Verdict billing.BudgetVerdict
	Draws   []billing.Draw
}

// JudgeBudgets judges the budgets of a tenant's projects, or of the one that is named, at now.
func JudgeBudgets(ctx context.Context, db DB, tenant id.Tenant, project id.Project, now time.Time) ([]JudgedBudget, error) {
	budgets, err := Budgets(ctx, db, tenant, project)
	if err != nil {
		return nil, err
	}
	judged := make([]JudgedBudget, 0, len(budgets))
	for _, budget := range budgets {
		span := budget.Period.At(now)
		draws, err := projectDraws(ctx, db, tenant, budget.ProjectID, span.Start)
		if err != nil {
			return nil, err
		}
		verdict, err := billing.Budget{AmountMicros: budget.AmountMicros, WarningPercent: budget.WarningPercent, Since: budget.CreatedAt, Period: span}.Judge(draws, now)
		if err != nil {
			return nil, err
		}
		judged = append(judged, JudgedBudget{Budget: budget, Span: span, Verdict: verdict, Draws: draws})
	}
	return judged, nil
}

// projectDraws reads every meter of a project that ran at or after an instant, with what was given back of its time.
func projectDraws(ctx context.Context, db DB, tenant id.Tenant, project id.Project, since time.Time) ([]billing.Draw, error) {
	meters, err := many[struct {
		ID                id.Allocation
		RateMicrosPerHour money.Micros
		MeteredFrom       time.Time
		MeteredTo         *time.Time
	}](ctx, db, "AllocationsMeteredInProject", pgx.NamedArgs{"tenant_id": tenant, "project_id": project, "since": since})
	if err != nil || len(meters) == 0 {
		return nil, err
	}
	ids, place := make([]id.Allocation, len(meters)), make(map[id.Allocation]int, len(meters))
	draws := make([]billing.Draw, len(meters))
	for i, meter := range meters {
		ids[i], place[meter.ID] = meter.ID, i
		draws[i].Meter = billing.Meter{RateMicrosPerHour: meter.RateMicrosPerHour, Anchor: meter.MeteredFrom, End: meter.MeteredTo}
	}
	given, err := many[struct {
		AllocationID id.Allocation
		PeriodStart  time.Time
		PeriodEnd    time.Time
	}](ctx, db, "LedgerForgivenOfMany", pgx.NamedArgs{"allocation_ids": ids})
	if err != nil {
		return nil, err
	}
	for _, credit := range given {
		draw := &draws[place[credit.AllocationID]]
		draw.Free = append(draw.Free, billing.Period{Start: credit.PeriodStart, End: credit.PeriodEnd})
	}
	return draws, nil
}

// Rungs of a budget.
const (
	RungBudgetWarning   = "budget_warning"
	RungBudgetExhausted = "budget_exhausted"
)

// BudgetCrossing is a rung of a budget that was reached.
type BudgetCrossing struct {
	TenantID      id.Tenant
	Judged        JudgedBudget
	Rung          string
	At            time.Time
	CorrelationID string
}

// InsertBudgetCrossing writes it and says whether it is the first of its version and period.
func InsertBudgetCrossing(ctx context.Context, db DB, crossing BudgetCrossing) (bool, error) {
	written, err := execute(ctx, db, "BudgetCrossingInsert", pgx.NamedArgs{
		"tenant_id": crossing.TenantID, "project_id": crossing.Judged.ProjectID, "version": crossing.Judged.Version,
		"period_start": crossing.Judged.Span.Start, "rung": crossing.Rung, "at": crossing.At,
		"spent_micros": int64(crossing.Judged.Verdict.SpentMicros), "correlation_id": crossing.CorrelationID,
	})
	return written == 1, err
}
