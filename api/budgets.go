package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type budgetBody struct {
	ProjectID      id.Project `json:"project_id"`
	Version        int64      `json:"version" doc:"Rises with every change."`
	AmountMinor    int64      `json:"amount_minor" doc:"What the project may spend in the period, in minor units of the currency."`
	Period         string     `json:"period" enum:"month,total"`
	WarningPercent int64      `json:"warning_percent" doc:"The share at which its people are warned."`
	Currency       string     `json:"currency"`
	SpentMicros    int64      `json:"spent_micros" doc:"What the project has spent in this period, accrued time included."`
	PeriodStart    *moment    `json:"period_start,omitempty" doc:"Absent for a budget of all the time."`
	PeriodEnd      *moment    `json:"period_end,omitempty"`
	WarningAt      *moment    `json:"warning_at,omitempty" doc:"When the warning's share is spent at the present rates; absent for not in this period."`
	ExhaustedAt    *moment    `json:"exhausted_at,omitempty" doc:"When what runs in the project is released; absent for not in this period."`
	SetAt          moment     `json:"set_at"`
}

type (
	budgetOut   struct{ Body budgetBody }
	putBudgetIn struct {
		ProjectPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			AmountMinor    int64  `json:"amount_minor" minimum:"1" maximum:"900000000000"`
			Period         string `json:"period" enum:"month,total"`
			WarningPercent int64  `json:"warning_percent,omitempty" minimum:"1" maximum:"100" default:"80"`
		}
	}
	deleteBudgetIn struct {
		ProjectPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

func (s *server) budgetOperations() {
	handle(s, "getProjectBudget", s.getProjectBudget)
	handle(s, "putProjectBudget", s.putProjectBudget)
	handle(s, "deleteProjectBudget", s.deleteProjectBudget)
}

func (s *server) getProjectBudget(ctx context.Context, _ *ProjectPath) (*budgetOut, error) {
	at := middleware.At(ctx)
	return s.budget(ctx, at.TenantID, at.ProjectID)
}

func (s *server) budget(ctx context.Context, tenant id.Tenant, project id.Project) (*budgetOut, error) {
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, tenant)
	if err != nil {
		return nil, orMissing(err, fault.AccountNotFound)
	}
	judged, err := queries.JudgeBudgets(ctx, s.config.Pool, tenant, project, s.config.Now().UTC())
	if err != nil {
		return nil, err
	}
	if len(judged) == 0 {
		return nil, fault.New(fault.BudgetNotFound, "")
	}
	budget := judged[0]
	body := budgetBody{
		ProjectID: project, Version: budget.Version, AmountMinor: budget.AmountMicros.Minor(), Period: string(budget.Period),
		WarningPercent: budget.WarningPercent, Currency: account.Currency, SpentMicros: int64(budget.Verdict.SpentMicros),
		WarningAt: maybe(budget.Verdict.WarningAt), ExhaustedAt: maybe(budget.Verdict.ExhaustedAt), SetAt: moment(budget.CreatedAt),
	}
	if !budget.Span.End.IsZero() {
		body.PeriodStart, body.PeriodEnd = maybe(&budget.Span.Start), maybe(&budget.Span.End)
	}
	return &budgetOut{Body: body}, nil
}

// putProjectBudget sets what a project may spend. Whoever watches the account hears of it by the database.
func (s *server) putProjectBudget(ctx context.Context, in *putBudgetIn) (*budgetOut, error) {
	at := middleware.At(ctx)
	amount, err := money.FromMinor(in.Body.AmountMinor)
	if err != nil {
		return nil, fault.New(fault.AmountOutOfRange, "")
	}
	audit := projectAudit(at.TenantID, at.ProjectID, "project.budget.set")
	audit.Details = map[string]any{"amount_micros": amount, "period": in.Body.Period, "warning_percent": in.Body.WarningPercent}
	err = s.change(ctx, audit, func(ctx context.Context, tx pgx.Tx) error {
		return s.writeBudget(ctx, tx, queries.NewBudget{AmountMicros: &amount, Period: billing.BudgetPeriod(in.Body.Period), WarningPercent: in.Body.WarningPercent})
	})
	if err != nil {
		return nil, err
	}
	return s.budget(ctx, at.TenantID, at.ProjectID)
}

// deleteProjectBudget lets a project spend what its tenant has.
func (s *server) deleteProjectBudget(ctx context.Context, _ *deleteBudgetIn) (*struct{}, error) {
	at := middleware.At(ctx)
	return nil, s.change(ctx, projectAudit(at.TenantID, at.ProjectID, "project.budget.delete"), func(ctx context.Context, tx pgx.Tx) error {
		budgets, err := queries.Budgets(ctx, tx, at.TenantID, at.ProjectID)
		if err != nil {
			return err
		}
		if len(budgets) == 0 {
			return fault.New(fault.BudgetNotFound, "")
		}
		return s.writeBudget(ctx, tx, queries.NewBudget{Period: budgets[0].Period, WarningPercent: budgets[0].WarningPercent})
	})
}

// writeBudget adds a version under the lock of the account that pays: two writers take turns, and so does an admission.
func (s *server) writeBudget(ctx context.Context, tx pgx.Tx, budget queries.NewBudget) error {
	at := middleware.At(ctx)
	account, err := queries.AccountOfTenant(ctx, tx, at.TenantID)
	if err != nil {
		return orMissing(err, fault.AccountNotFound)
	}
	if _, err := queries.LockAccount(ctx, tx, at.TenantID, account.ID); err != nil {
		return err
	}
	budget.TenantID, budget.ProjectID, budget.ActorUserID = at.TenantID, at.ProjectID, string(middleware.Principal(ctx).UserID)
	return queries.InsertBudget(ctx, tx, budget)
}
