package api

import (
	"context"
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type transitionBody struct {
	Version       int64     `json:"version"`
	FromState     stateName `json:"from_state,omitempty"`
	ToState       stateName `json:"to_state"`
	At            moment    `json:"at"`
	ActorID       string    `json:"actor_id"`
	ActorRole     string    `json:"actor_role"`
	Reason        string    `json:"reason"`
	NodeID        string    `json:"node_id,omitempty"`
	CorrelationID string    `json:"correlation_id"`
}

type timelineOut struct {
	Body struct {
		Items []transitionBody `json:"items"`
	}
}

func (s *server) getAllocationTimeline(ctx context.Context, _ *AllocationPath) (*timelineOut, error) {
	row, err := theAllocation(ctx)
	if err != nil {
		return nil, err
	}
	transitions, err := queries.ListTransitions(ctx, s.config.Pool, row.TenantID, row.ID)
	if err != nil {
		return nil, err
	}
	out := &timelineOut{}
	out.Body.Items = []transitionBody{}
	for _, one := range transitions {
		out.Body.Items = append(out.Body.Items, transitionBody{
			Version: one.Version, FromState: stateName(text(one.FromState)), ToState: stateName(one.ToState), At: moment(one.At),
			ActorID: one.ActorID, ActorRole: one.ActorRole, Reason: one.Reason, NodeID: text(one.NodeID), CorrelationID: one.CorrelationID,
		})
	}
	return out, nil
}

type explanationBody struct {
	AllocationID  id.Allocation `json:"allocation_id"`
	Source        string        `json:"source" enum:"workflow,database" doc:"Who answered."`
	WorkflowID    string        `json:"workflow_id,omitempty" doc:"Where the workflow engine shows it."`
	State         stateName     `json:"state"`
	Version       int64         `json:"version"`
	Doing         string        `json:"doing" doc:"One sentence for a person."`
	Step          string        `json:"step,omitempty"`
	Attempt       int64         `json:"attempt,omitempty"`
	WaitingFor    string        `json:"waiting_for,omitempty"`
	NextDeadline  *moment       `json:"next_deadline,omitempty"`
	NodeID        string        `json:"node_id,omitempty"`
	CostMicros    int64         `json:"cost_micros"`
	Currency      string        `json:"currency"`
	SettledTo     *moment       `json:"settled_to,omitempty" doc:"Up to when windows are in the ledger."`
	LimitAt       *moment       `json:"limit_at,omitempty" doc:"When a spending limit ends it if nothing changes."`
	LastError     string        `json:"last_error,omitempty"`
	GivenUpNodes  []string      `json:"given_up_nodes,omitempty"`
	PendingSignal string        `json:"pending_signal,omitempty"`
}

type explanationOut struct{ Body explanationBody }

// queryPatience is how long a worker may take to answer before the database answers alone.
const queryPatience = 2 * time.Second

func (s *server) explainAllocation(ctx context.Context, _ *AllocationPath) (*explanationOut, error) {
	row, err := theAllocation(ctx)
	if err != nil {
		return nil, err
	}
	if !row.State.Terminal() {
		if found, answered := s.askWorkflow(ctx, row.ID); answered {
			return &explanationOut{Body: explained(row, found)}, nil
		}
	}
	return s.explainFromDatabase(ctx, row)
}

// askWorkflow asks the run; false when no worker answers in time.
func (s *server) askWorkflow(ctx context.Context, allocationID id.Allocation) (workflows.Explanation, bool) {
	var found workflows.Explanation
	cluster, err := s.temporal()
	if err != nil {
		return found, false
	}
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	answer, err := cluster.QueryWorkflow(ctx, workflows.AllocationWorkflowID(allocationID), "", workflows.ExplainQuery)
	if err == nil {
		err = answer.Get(&found)
	}
	if err != nil {
		s.config.Log.InfoContext(ctx, "no worker explained the allocation", "allocation_id", string(allocationID), "error", err.Error())
	}
	return found, err == nil && found.State != ""
}

func explained(row queries.Allocation, found workflows.Explanation) explanationBody {
	body := explanationBody{
		AllocationID: row.ID, Source: "workflow", WorkflowID: workflows.AllocationWorkflowID(row.ID), State: stateName(found.State),
		Version: found.Version, Doing: found.Doing, Step: found.Step, Attempt: int64(found.Attempt), WaitingFor: found.WaitingFor,
		NextDeadline: maybe(found.NextDeadline), NodeID: string(found.NodeID), CostMicros: int64(found.CostMicros), Currency: row.Currency,
		SettledTo: maybe(found.SettledTo), LimitAt: maybe(found.LimitAt), LastError: found.LastError, PendingSignal: found.PendingSignal,
	}
	for _, node := range found.GivenUpNodes {
		body.GivenUpNodes = append(body.GivenUpNodes, string(node))
	}
	return body
}

// explainFromDatabase says what the rows know: the state, what it costs, and what usually comes next.
func (s *server) explainFromDatabase(ctx context.Context, row queries.Allocation) (*explanationOut, error) {
	totals, err := queries.LedgerAllocationTotals(ctx, s.config.Pool, row.TenantID, row.AccountID, row.ID)
	if err != nil {
		return nil, err
	}
	cost := totals.UsageMicros - totals.CreditMicros
	if row.State == allocation.Active && row.MeteredFrom != nil {
		accrued, err := billing.Meter{RateMicrosPerHour: row.RateMicrosPerHour, Anchor: *row.MeteredFrom, End: row.MeteredTo}.Accrued(totals.PostedTo, s.config.Now())
		if err != nil {
			return nil, err
		}
		cost += accrued
	}
	return &explanationOut{Body: explanationBody{
		AllocationID: row.ID, Source: "database", WorkflowID: workflows.AllocationWorkflowID(row.ID), State: stateName(row.State), Version: row.Version,
		Doing: doing(row), NodeID: text(row.NodeID), CostMicros: int64(cost), Currency: row.Currency,
		SettledTo: maybe(totals.PostedTo), LastError: row.FailureMessage,
	}}, nil
}

func doing(row queries.Allocation) string {
	switch row.State {
	case allocation.Requested:
		return "It was admitted and waits for provisioning to begin."
	case allocation.Provisioning:
		return "Its node is being made usable."
	case allocation.Active:
		return "It is in use and metered."
	case allocation.Releasing:
		return "Its node is being wiped and verified."
	case allocation.ReleaseFailed:
		return "Its node could not be wiped; it waits for a retry by its owner or an admin."
	case allocation.Failed:
		return "It failed and was not charged."
	default:
		return "It was released."
	}
}

type waitIn struct {
	AllocationPath
	State          stateName `query:"state" default:"active" doc:"The state to wait for."`
	TimeoutSeconds int64     `query:"timeout_seconds" minimum:"0" maximum:"60" default:"30" doc:"How long to wait at most."`
}

type waitOut struct {
	Body struct {
		Reached    bool           `json:"reached"`
		Allocation allocationBody `json:"allocation"`
	}
}

// waitPoll is how often a waiting request looks: an indexed read of one row.
const waitPoll = 200 * time.Millisecond

// waitAllocation answers as soon as the state is reached, can no longer be reached, or the time is over.
func (s *server) waitAllocation(ctx context.Context, in *waitIn) (*waitOut, error) {
	deadline := time.NewTimer(time.Duration(in.TimeoutSeconds) * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	wanted, over := allocation.State(in.State), in.TimeoutSeconds == 0
	row, err := theAllocation(ctx)
	if err != nil {
		return nil, err
	}
	for {
		if over || row.State == wanted || !reachable(row.State, wanted) {
			costs, err := queries.Costs(ctx, s.config.Pool, []id.Allocation{row.ID})
			if err != nil {
				return nil, err
			}
			out := &waitOut{}
			out.Body.Reached, out.Body.Allocation = row.State == wanted, renderAllocation(row, costs[row.ID])
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			over = true
		case <-tick.C:
		}
		if row, err = queries.GetAllocation(ctx, s.config.Pool, row.TenantID, row.ID); err != nil {
			return nil, err
		}
	}
}

// reachable says whether arrows lead from one state to another.
func reachable(from, wanted allocation.State) bool {
	seen, open := map[allocation.State]bool{}, []allocation.State{from}
	for len(open) > 0 {
		state := open[0]
		open = open[1:]
		if state == wanted {
			return true
		}
		if seen[state] {
			continue
		}
		seen[state] = true
		open = append(open, state.Next()...)
	}
	return false
}

// accruedOf is what running meters have cost beyond what the ledger shows.
func accruedOf(meters []queries.RunningMeter, posted map[id.Allocation]queries.Posted, now time.Time) (money.Micros, error) {
	var total money.Micros
	for _, meter := range meters {
		if posted[meter.AllocationID].Settled {
			continue
		}
		accrued, err := billing.Meter{RateMicrosPerHour: meter.RateMicrosPerHour, Anchor: meter.MeteredFrom, End: meter.MeteredTo}.
			Accrued(posted[meter.AllocationID].PostedTo, now)
		if err != nil {
			return 0, err
		}
		total += accrued
	}
	return total, nil
}
