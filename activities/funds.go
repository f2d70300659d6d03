package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Signaller sends signals to workflows; client.Client is one.
type Signaller interface {
	SignalWorkflow(ctx context.Context, workflowID, runID, signal string, argument any) error
	SignalWithStartWorkflow(ctx context.Context, workflowID, signal string, argument any, options client.StartWorkflowOptions,
		workflow any, arguments ...any) (client.WorkflowRun, error)
}

// Funds watches what accounts hold. Its tools are the database, whoever sends signals, the clock, and what measures the ends of money.
type Funds struct {
	Pool    *pgxpool.Pool
	Cluster Signaller
	// Now is the clock that says what has accrued, and which instants have passed.
	Now func() time.Time
	// Rungs counts the rungs that are reached, by name; Lateness measures how late the end of money was found, in seconds.
	Rungs    telemetry.Counter
	Lateness telemetry.Histogram
}

// Bind registers the steps of Funds.
func (f *Funds) Bind(registry worker.ActivityRegistry) {
	workflows.StepTellFunds.Bind(registry, f.Tell)
	workflows.StepReviewFunds.Bind(registry, f.Review)
}

// Tell has the account's Funds workflow look again. fault.AccountNotFound when no tenant has the account.
func (f *Funds) Tell(ctx context.Context, in workflows.TellFundsIn) (workflows.Nothing, error) {
	account, err := queries.GetAccount(ctx, f.Pool, in.AccountID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.Nothing{}, fault.New(fault.AccountNotFound, "")
	}
	if err != nil {
		return workflows.Nothing{}, err
	}
	return workflows.Nothing{}, f.tellOf(ctx, account.TenantID, in)
}

func (f *Funds) tellOf(ctx context.Context, tenant id.Tenant, in workflows.TellFundsIn) error {
	costs, err := queries.AccountCostsMoney(ctx, f.Pool, tenant, in.AccountID)
	if err != nil {
		return err
	}
	return f.tell(ctx, tenant, in, costs)
}

func (f *Funds) tell(ctx context.Context, tenant id.Tenant, in workflows.TellFundsIn, start bool) error {
	change := workflows.FundsChange{Because: in.Because, CorrelationID: in.CorrelationID}
	workflowID := workflows.FundsWorkflowID(in.AccountID)
	if start {
		_, err := f.Cluster.SignalWithStartWorkflow(ctx, workflowID, workflows.FundsChangedSignal, change, client.StartWorkflowOptions{
			ID: workflowID, TaskQueue: workflows.AllocationsQueue, StaticSummary: "What " + string(in.AccountID) + " holds, and when it runs out",
		}, workflows.FundsType, workflows.FundsInput{AccountID: in.AccountID, TenantID: tenant})
		if err != nil {
			return fmt.Errorf("start the watch over %s: %w", in.AccountID, err)
		}
		return nil
	}
	err := f.Cluster.SignalWorkflow(ctx, workflowID, "", workflows.FundsChangedSignal, change)
	var absent *serviceerror.NotFound
	if err != nil && !errors.As(err, &absent) { // nothing of the account costs money and nobody watches it
		return fmt.Errorf("tell the watch over %s: %w", in.AccountID, err)
	}
	return nil
}
