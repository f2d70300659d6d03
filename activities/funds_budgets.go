package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// budgetEvent is the payload of the two events of a budget; asyncapi names the same fields.
type budgetEvent struct {
	TenantID       id.Tenant              `json:"tenant_id"`
	AccountID      id.Account             `json:"account_id"`
	ProjectID      id.Project             `json:"project_id"`
	Currency       string                 `json:"currency"`
	Version        int64                  `json:"version"`
	AmountMicros   money.Micros           `json:"amount_micros"`
	SpentMicros    money.Micros           `json:"spent_micros"`
	Period         billing.BudgetPeriod   `json:"period"`
	PeriodStart    *time.Time             `json:"period_start,omitempty"`
	WarningPercent int64                  `json:"warning_percent"`
	At             time.Time              `json:"at"`
	ExhaustedAt    *time.Time             `json:"exhausted_at,omitempty"`
	Message        string                 `json:"message"`
	Allocations    []fundsEventAllocation `json:"allocations"`
}

// judgeBudgets writes the rungs of the account's budgets that are reached, each once with its event.
func (r *fundsReview) judgeBudgets(ctx context.Context, tx pgx.Tx) error {
	budgets, err := queries.JudgeBudgets(ctx, tx, r.in.TenantID, "", r.now)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "What the projects of the account cost does not fit the ledger.")
	}
	r.budgets = budgets
	for _, budget := range budgets {
		if budget.Verdict.Warned {
			if err := r.writeBudget(ctx, tx, budget, queries.RungBudgetWarning, *budget.Verdict.WarningAt, event.BillingBudgetWarning); err != nil {
				return err
			}
		}
		if budget.Verdict.Exhausted {
			if err := r.writeBudget(ctx, tx, budget, queries.RungBudgetExhausted, *budget.Verdict.ExhaustedAt, event.BillingBudgetExhausted); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *fundsReview) writeBudget(ctx context.Context, tx pgx.Tx, budget queries.JudgedBudget, rung string, at time.Time, kind event.Type) error {
	first, err := queries.InsertBudgetCrossing(ctx, tx, queries.BudgetCrossing{
		TenantID: r.in.TenantID, Judged: budget, Rung: rung, At: at, CorrelationID: r.in.CorrelationID,
	})
	if err != nil || !first {
		return err
	}
	payload := budgetEvent{
		TenantID: r.in.TenantID, AccountID: r.in.AccountID, ProjectID: budget.ProjectID, Currency: r.currency, Version: budget.Version,
		AmountMicros: budget.AmountMicros, SpentMicros: budget.Verdict.SpentMicros, Period: budget.Period, WarningPercent: budget.WarningPercent,
		At: at, ExhaustedAt: budget.Verdict.ExhaustedAt, Message: r.budgetSentence(budget, rung), Allocations: []fundsEventAllocation{},
	}
	if !budget.Span.Start.IsZero() {
		payload.PeriodStart = &budget.Span.Start
	}
	for _, held := range r.endingIn(budget.ProjectID) {
		if len(payload.Allocations) == announcedAllocations {
			break
		}
		payload.Allocations = append(payload.Allocations, fundsEventAllocation{
			AllocationID: held.ID, ProjectID: held.ProjectID, UserID: held.UserID, Name: held.Name, SKU: held.SKU,
			Message: loss(held, rung == queries.RungBudgetExhausted, budget.Verdict.ExhaustedAt, "the budget"),
		})
	}
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: kind, Fact: fmt.Sprintf("%s/%s/%d/%d", budget.ProjectID, rung, budget.Version, budget.Span.Start.UnixMilli()),
		AggregateID: string(r.in.AccountID), OccurredAt: r.now, CorrelationID: r.in.CorrelationID, Payload: payload,
	})
}

func (r *fundsReview) budgetSentence(budget queries.JudgedBudget, rung string) string {
	spent, of := amount(budget.Verdict.SpentMicros, r.currency), amount(budget.AmountMicros, r.currency)
	switch {
	case rung == queries.RungBudgetExhausted:
		return fmt.Sprintf("The project's budget of %s was used up at %s. What runs in it is being released, and everything on the nodes is being deleted.",
			of, people(*budget.Verdict.ExhaustedAt))
	case budget.Verdict.ExhaustedAt != nil:
		return fmt.Sprintf("The project has spent %s of its budget of %s and uses it up at %s if nothing changes. What runs in it is released then, and everything "+
			"on the nodes is deleted. Raise the budget to keep it.", spent, of, people(*budget.Verdict.ExhaustedAt))
	default:
		return fmt.Sprintf("The project has spent %s of its budget of %s.", spent, of)
	}
}

// endingIn are the allocations of a project that end with its budget.
func (r *fundsReview) endingIn(project id.Project) []queries.FundedAllocation {
	var ending []queries.FundedAllocation
	for _, held := range r.ending() {
		if held.ProjectID == project {
			ending = append(ending, held)
		}
	}
	return ending
}

// releases are what has to end, each as of the earliest instant that any rule says.
func (r *fundsReview) releases() []workflows.FundsRelease {
	var releases []workflows.FundsRelease
	place := map[id.Allocation]int{}
	add := func(held queries.FundedAllocation, at time.Time, cause allocation.ReleaseCause, reason string) {
		order := workflows.FundsRelease{AllocationID: held.ID, AskedAt: at, Cause: cause, Reason: reason}
		if i, known := place[held.ID]; !known {
			place[held.ID] = len(releases)
			releases = append(releases, order)
		} else if at.Before(releases[i].AskedAt) {
			releases[i] = order
		}
	}
	if r.verdict.Depleted {
		for _, held := range r.ending() {
			add(held, *r.verdict.ZeroAt, allocation.CauseFunds, "the balance is used up")
		}
	}
	for _, budget := range r.budgets {
		if budget.Verdict.Exhausted {
			for _, held := range r.endingIn(budget.ProjectID) {
				add(held, *budget.Verdict.ExhaustedAt, allocation.CauseLimit, "the project's budget is used up")
			}
		}
	}
	return releases
}

// next is when the account must be looked at again if nothing changes; nil for never.
func (r *fundsReview) next() *time.Time {
	next := r.verdict.Next
	for _, budget := range r.budgets {
		if at := budget.Verdict.Next; at != nil && (next == nil || at.Before(*next)) {
			next = at
		}
	}
	if at := r.topUp.next; at != nil && at.After(r.now) && (next == nil || at.Before(*next)) {
		next = at
	}
	return next
}

// withinBudget refuses unless the project's budget, if it has one, covers the runway of everything that runs in it and of this. It
// holds only under the account's lock.
func (a admission) withinBudget(ctx context.Context, account queries.Account, price queries.Price, runway time.Duration) error {
	budgets, err := queries.JudgeBudgets(ctx, a.tx, a.in.Principal.TenantID, a.in.ProjectID, a.now)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "What the project costs does not fit the ledger.")
	}
	for _, budget := range budgets {
		rates, err := billing.Funds{Draws: budget.Draws}.RateMicrosPerHour(a.now)
		if err != nil {
			return fault.Wrap(err, fault.AmountOutOfRange, "The rates of the project's allocations add up to more than the ledger holds.")
		}
		required, err := billing.Charge(rates+price.RateMicrosPerHour, runway)
		if err != nil {
			return fault.Wrap(err, fault.AmountOutOfRange, "The rates of the project's allocations add up to more than the ledger holds.")
		}
		left := budget.AmountMicros - budget.Verdict.SpentMicros
		if price.RateMicrosPerHour > 0 && (left <= 0 || left < required) {
			return fault.New(fault.BudgetExceeded, "").With(map[string]any{
				"project_id": a.in.ProjectID, "budget_micros": budget.AmountMicros, "spent_micros": budget.Verdict.SpentMicros,
				"required_micros": required, "currency": account.Currency,
			})
		}
	}
	return nil
}
