package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
)

// TenantClosureType is the registered name of the TenantClosure workflow: one tenant, from its closing until it is erased or
// opened again (docs/flows/closing.md).
const TenantClosureType = "TenantClosure"

// TenantClosureWorkflowID is the workflow id of a tenant's closure.
func TenantClosureWorkflowID(tenant id.Tenant) string { return "closure/" + string(tenant) }

// TenantClosureInput starts one tenant's workflow.
type TenantClosureInput struct {
	TenantID id.Tenant `json:"tenant_id"`
}

// Updates of TenantClosure. Both take ClosureChange and answer ClosureReply once Postgres holds the change.
const (
	CloseUpdate  = "close"
	ReopenUpdate = "reopen"
)

// ClosureChange is somebody's order about a tenant. RequestID is the request's: a repeat of it changes nothing more.
type ClosureChange struct {
	TenantID      id.Tenant      `json:"tenant_id"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	RequestID     string         `json:"request_id"`
	CorrelationID string         `json:"correlation_id"`
}

// Closure is how a tenant's end stands. EraseAt, in UTC milliseconds, is set while it is closed.
type Closure struct {
	Closed  bool      `json:"closed"`
	EraseAt time.Time `json:"erase_at"`
	// RefundMicros is what this change took out of the balance, to be paid out.
	RefundMicros money.Micros `json:"refund_micros"`
	Currency     string       `json:"currency,omitempty"`
}

// ClosureReply is how the tenant stands after a change, or the fault that refused it.
type ClosureReply struct {
	Closure
	Fault *Fault `json:"fault,omitempty"`
}

// EraseTenantIn asks for a tenant's erasure, which was due at EraseAt.
type EraseTenantIn struct {
	TenantID id.Tenant `json:"tenant_id"`
	EraseAt  time.Time `json:"erase_at"`
}

// Steps of TenantClosure on Postgres (queue: allocations).
var (
	// StepCloseTenant closes the tenant and takes what remains out of its balance, in one transaction with its audit row; a repeat of
	// the request answers as before.
	StepCloseTenant = Step[ClosureChange, Closure]{Name: "closure.close", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepReopenTenant makes it active again.
	StepReopenTenant = Step[ClosureChange, Closure]{Name: "closure.reopen", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepEraseTenant erases what is personal, unless the tenant was opened again or is due later; it answers how the tenant stands, not
	// closed once there is nothing left to do. It looks through everybody's stored answers, so it takes longer than others.
	StepEraseTenant = Step[EraseTenantIn, Closure]{Name: "closure.erase", StartToClose: time.Minute, Retry: retryAlways}
)

type closureRun struct {
	Closure
	input TenantClosureInput
	// turns makes changes and the erasure follow each other.
	turns workflow.Mutex
}

// TenantClosure writes that a tenant is closed and erases it when its notice has passed, unless it is opened again before.
func TenantClosure(root workflow.Context, input TenantClosureInput) error {
	// A cancellation in Temporal opens nothing and must not keep an erasure from being done.
	ctx, _ := workflow.NewDisconnectedContext(root)
	c := &closureRun{input: input, turns: workflow.NewMutex(ctx)}
	if err := errors.Join(c.answer(ctx, CloseUpdate, StepCloseTenant), c.answer(ctx, ReopenUpdate, StepReopenTenant)); err != nil {
		return err
	}
	letHandlersStart(ctx)
	for {
		await(ctx, func() bool { return c.Closed || workflow.AllHandlersFinished(ctx) })
		if !c.Closed {
			return nil
		}
		due := c.EraseAt
		changed := func() bool { return !c.Closed || !c.EraseAt.Equal(due) }
		if !pause(ctx, "Wait until the notice has passed", due.Sub(workflow.Now(ctx)), changed) {
			c.erase(ctx, due)
		}
	}
}

func (c *closureRun) answer(ctx workflow.Context, update string, step Step[ClosureChange, Closure]) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, update, func(ctx workflow.Context, change ClosureChange) (ClosureReply, error) {
		return c.change(ctx, step, change)
	}, workflow.UpdateHandlerOptions{Validator: c.mayChange, Description: "An owner's or an operator's word; Postgres keeps it, with its audit row."})
}

func (c *closureRun) mayChange(_ workflow.Context, change ClosureChange) error {
	if change.TenantID != c.input.TenantID {
		return fmt.Errorf("the change is of %s and this workflow holds %s", change.TenantID, c.input.TenantID)
	}
	return nil
}

// change has Postgres decide and remembers how the tenant stands then. A refusal changes nothing.
func (c *closureRun) change(ctx workflow.Context, step Step[ClosureChange, Closure], change ClosureChange) (ClosureReply, error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if err := c.turns.Lock(ctx); err != nil {
		return ClosureReply{}, err
	}
	defer c.turns.Unlock()
	closure, err := step.Run(ctx, fmt.Sprintf("%s %s", step.Name, change.TenantID), change)
	if refusal := refusalOf(err); refusal != nil {
		return ClosureReply{Fault: refusal}, nil
	}
	if err != nil {
		return ClosureReply{}, err
	}
	c.Closure = closure
	c.show(ctx)
	return ClosureReply{Closure: closure}, nil
}

// erase asks until the tenant is erased, or is found open or due later.
func (c *closureRun) erase(ctx workflow.Context, due time.Time) {
	if err := c.turns.Lock(ctx); err != nil {
		return
	}
	defer c.turns.Unlock()
	if !c.Closed || !c.EraseAt.Equal(due) {
		return
	}
	c.Closure = insist(ctx, c, StepEraseTenant, "Erase what is personal of "+string(c.input.TenantID), EraseTenantIn{TenantID: c.input.TenantID, EraseAt: due})
	c.show(ctx)
}

func (c *closureRun) show(ctx workflow.Context) {
	story := fmt.Sprintf("`%s` is not waiting to be erased", c.input.TenantID)
	if c.Closed {
		story = fmt.Sprintf("`%s` is closed and is erased at %s", c.input.TenantID, c.EraseAt.Format(time.RFC3339))
	}
	workflow.SetCurrentDetails(ctx, story)
}

func (c *closureRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a closure had trouble", "step", step, "tenant_id", c.input.TenantID, "error", err)
}

func (c *closureRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
