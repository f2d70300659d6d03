package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
)

// The input, id, signals, update, query and steps of Allocation are in allocation_contract.go and
// ledger_contract.go; its states and arrows are in domain/allocation and told in docs/flows/allocation.md.

// AllocationState is everything a run hands to the next one: what was pinned, where the allocation stands, what is in
// its custody, what was metered and what was asked for. Whatever a run must not forget is a field here.
type AllocationState struct {
	Terms   Terms            `json:"terms"`
	State   allocation.State `json:"state"`
	Version int64            `json:"version"`
	// Lease is the node in our custody: nil between giving one up and claiming another, and once it was handed back.
	Lease *node.Lease `json:"lease,omitempty"`
	// LastLease is the lease that was given up or handed back last; LastNode the node in use now or last.
	LastLease *node.Lease `json:"last_lease,omitempty"`
	LastNode  id.Node     `json:"last_node,omitempty"`
	GivenUp   []id.Node   `json:"given_up,omitempty"`
	Access    *Access     `json:"access,omitempty"`
	// Anchor is metered_from and MeteredTo metered_to; both are set once. PostedTo is the end of the last window posted.
	Anchor    *time.Time `json:"anchor,omitempty"`
	MeteredTo *time.Time `json:"metered_to,omitempty"`
	PostedTo  time.Time  `json:"posted_to"`
	// ChargedMicros is what was posted less what was credited; Settled says that it is the final bill.
	ChargedMicros money.Micros `json:"charged_micros"`
	Settled       bool         `json:"settled"`
	// Ask is the release that is honoured, Asks how many were heard in all.
	Ask  *ReleaseRequest `json:"ask,omitempty"`
	Asks int             `json:"asks"`
	// Forced is a force-release not yet acted on, Abandon one that gives the node up unwiped.
	Forced  bool                 `json:"forced"`
	Abandon *ForceReleaseRequest `json:"abandon,omitempty"`
	// Holds are the suspensions that the allocation is under, none while it runs. SuspendedAt is where they stopped the
	// meter, nil while it runs; AccessCut says that nobody can log in since.
	Holds       []Hold     `json:"holds,omitempty"`
	SuspendedAt *time.Time `json:"suspended_at,omitempty"`
	AccessCut   bool       `json:"access_cut,omitempty"`
	// AccessTasks numbers the tasks that cut access and gave it back over the whole life, for the agent's journal.
	AccessTasks int `json:"access_tasks,omitempty"`
	// Cancelled says that a cancellation in Temporal was already heard as a release.
	Cancelled bool `json:"cancelled"`
	// WipeAttempts numbers the attempts over the whole life, because the agent's journal replays a success under the
	// number it was made with; the retry budget counts from BudgetFrom.
	WipeAttempts int    `json:"wipe_attempts"`
	BudgetFrom   int    `json:"budget_from"`
	LastError    string `json:"last_error,omitempty"`
	// NumberedFrom is where the numbers of tasks begin: beyond any that a lost run can have come to, and 0 where none was lost.
	NumberedFrom int `json:"numbered_from,omitempty"`
	// Certificate is set where the node of a recalled allocation had been handed back or abandoned and its row alone was not written.
	Certificate *ReleaseCertificate `json:"certificate,omitempty"`
}

// AllocationOutcome is what a closed run says of itself in the Temporal UI. State is empty when nothing was admitted.
type AllocationOutcome struct {
	State         allocation.State `json:"state,omitempty"`
	ChargedMicros money.Micros     `json:"charged_micros"`
	Note          string           `json:"note,omitempty"`
}

// allocationRun is one run of the workflow. What must outlive it is in AllocationState.
type allocationRun struct {
	AllocationState
	input AllocationInput
	// root carries a cancellation of the workflow; everything else runs on a context that cannot be cancelled from
	// outside, because a node in custody must be wiped whoever presses what.
	root            workflow.Context
	releases        workflow.ReceiveChannel
	forces          workflow.ReceiveChannel
	suspensions     workflow.ReceiveChannel
	admissions      int
	note            string
	now             doing
	told            []told
	probeKeyRemoval workflow.Future
	stopRemoval     workflow.CancelFunc
}

// errReleaseAsked ends whatever is in hand because release was asked for; errAbandoned because the node is given up.
var (
	errReleaseAsked = errors.New("release was asked for")
	errAbandoned    = errors.New("the node is to be abandoned")
)

// Allocation is one tenant's hold on one node, from request to release. It never fails: trouble is a state.
func Allocation(root workflow.Context, input AllocationInput) (AllocationOutcome, error) {
	ctx, _ := workflow.NewDisconnectedContext(root)
	a := &allocationRun{
		input:       input,
		root:        root,
		releases:    workflow.GetSignalChannel(ctx, ReleaseSignal),
		forces:      workflow.GetSignalChannel(ctx, ForceReleaseSignal),
		suspensions: workflow.GetSignalChannel(ctx, SuspensionSignal),
	}
	if input.Carried != nil {
		a.AllocationState = *input.Carried
	}
	if err := a.answerQueriesAndUpdates(ctx); err != nil {
		return AllocationOutcome{}, err
	}
	return a.run(ctx)
}

func (a *allocationRun) run(ctx workflow.Context) (AllocationOutcome, error) {
	if a.input.Recalled && a.input.Carried == nil {
		if !a.recall(ctx) {
			return a.close(ctx)
		}
	} else if !a.admittedHere(ctx) {
		return a.close(ctx)
	}
	for !a.State.Terminal() {
		if historyIsLong(ctx, a.input.ContinueAfterEvents) {
			return a.continueAsNew(ctx)
		}
		switch a.State {
		case allocation.Requested:
			a.begin(ctx)
		case allocation.Provisioning:
			a.provision(ctx)
		case allocation.Active:
			a.meter(ctx)
		case allocation.Releasing:
			a.wipe(ctx)
		case allocation.ReleaseFailed:
			a.awaitRetry(ctx)
		}
	}
	return a.close(ctx)
}

// close lets handlers and messages under way finish, takes note of signals that came too late, and ends the run.
// Nothing yields after the drain: what arrives later makes the server refuse the close and ask again.
func (a *allocationRun) close(ctx workflow.Context) (AllocationOutcome, error) {
	a.finishLooseEnds(ctx)
	a.drain(ctx)
	return AllocationOutcome{State: a.State, ChargedMicros: a.ChargedMicros, Note: a.note}, nil
}

// continueAsNew hands everything to a fresh history. Signals still buffered are drained into the carried state.
func (a *allocationRun) continueAsNew(ctx workflow.Context) (AllocationOutcome, error) {
	a.endProbeKeyRemoval(ctx)
	a.finishLooseEnds(ctx)
	a.drain(ctx)
	next := a.input
	next.Carried = &a.AllocationState
	return AllocationOutcome{}, workflow.NewContinueAsNewError(ctx, AllocationType, next)
}

// finishLooseEnds waits for messages to Node workflows and for updates being answered.
func (a *allocationRun) finishLooseEnds(ctx workflow.Context) {
	for _, message := range a.told {
		message.outcome(ctx)
	}
	a.told = nil
	await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// historyIsLong says that the run should hand over: the server suggests it, or the input's own limit is reached.
func historyIsLong(ctx workflow.Context, limit int) bool {
	info := workflow.GetInfo(ctx)
	return info.GetContinueAsNewSuggested() || (limit > 0 && info.GetCurrentHistoryLength() >= limit)
}
