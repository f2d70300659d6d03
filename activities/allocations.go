// Package activities touches the world for the workflows: a struct a noun, whose fields are exactly its tools, bound
// to the steps that the workflows own. One activity may compose several domains' statements in one transaction. It
// imports workflows, domain, schema/queries and internal/*; nobody below imports it.
package activities

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/workflows"
)

// Allocations writes allocations and their custody of nodes. Its tools are the database, the policy and the clock.
type Allocations struct {
	Pool   *pgxpool.Pool
	Policy *policy.Client
	// Now is the clock that decides which price is valid and what has accrued.
	Now func() time.Time
	// Funds is told when a meter starts or stops; nil where no account runs out, as in a benchmark of the bare steps.
	Funds *Funds
}

// Bind registers the steps of Allocation that touch Postgres, the ledger's apart.
func (a *Allocations) Bind(registry worker.ActivityRegistry) {
	workflows.StepAdmit.Bind(registry, a.Admit)
	workflows.StepTransition.Bind(registry, a.Transition)
	workflows.StepClaimAnother.Bind(registry, a.ClaimAnother)
	workflows.StepGiveUpNode.Bind(registry, a.GiveUpNode)
	workflows.StepCloseLease.Bind(registry, a.CloseLease)
	workflows.StepRecordSuspension.Bind(registry, a.RecordSuspension)
	workflows.StepRecall.Bind(registry, a.Recall)
	workflows.StepRuntimePolicy.Bind(registry, a.RuntimePolicy)
}

// milliseconds is t as periods and timestamps are kept: UTC, truncated to the millisecond.
func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
