package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// allocationEvent is the payload of every provisioning event; asyncapi names the same fields.
type allocationEvent struct {
	AllocationID id.Allocation           `json:"allocation_id"`
	TenantID     id.Tenant               `json:"tenant_id"`
	ProjectID    id.Project              `json:"project_id"`
	UserID       id.User                 `json:"user_id"`
	AccountID    id.Account              `json:"account_id"`
	SKU          id.SKU                  `json:"sku"`
	State        allocation.State        `json:"state"`
	Version      int64                   `json:"version"`
	NodeID       *id.Node                `json:"node_id,omitempty"`
	MeteredFrom  *time.Time              `json:"metered_from,omitempty"`
	MeteredTo    *time.Time              `json:"metered_to,omitempty"`
	Cause        allocation.ReleaseCause `json:"cause,omitempty"`
	Reason       string                  `json:"reason,omitempty"`
	Failure      *workflows.Fault        `json:"failure,omitempty"`
}

// Transition writes one arrow with its timeline, audit and outbox rows. An arrow that stands already, with the same
// version and target, answers as before; anything else there is fault.AllocationStateConflict.
func (a *Allocations) Transition(ctx context.Context, in workflows.Transition) (workflows.TransitionDone, error) {
	if !in.From.CanBecome(in.To) {
		return workflows.TransitionDone{}, fault.Newf(fault.AllocationStateConflict, "An allocation cannot go from %s to %s.", in.From, in.To)
	}
	arrow, err := arrowOf(in)
	if err != nil {
		return workflows.TransitionDone{}, err
	}
	var done workflows.TransitionDone
	var account id.Account
	err = store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		arrived, err := queries.TransitionAllocation(ctx, tx, arrow)
		if errors.Is(err, pgx.ErrNoRows) {
			done, err = stands(ctx, tx, in)
			return err
		}
		if err != nil {
			return err
		}
		done.Version = arrived.Version
		account = arrived.AccountID
		return tell(ctx, tx, in, arrived)
	})
	if err != nil || (in.To != allocation.Active && in.To != allocation.Releasing) {
		return done, err
	}
	return done, a.meterChanged(ctx, in.TenantID, in.AllocationID, account, "an allocation became "+string(in.To), in.CorrelationID)
}

func arrowOf(in workflows.Transition) (queries.Arrow, error) {
	arrow := queries.Arrow{
		AllocationID: in.AllocationID, TenantID: in.TenantID, Version: in.Version, From: in.From, To: in.To, At: milliseconds(in.At),
		MeteredFrom: in.MeteredFrom, MeteredTo: in.MeteredTo,
	}
	if in.Cause != "" {
		arrow.Cause = &in.Cause
	}
	if in.Failure != nil {
		arrow.FailureCode, arrow.FailureMessage = &in.Failure.Code, &in.Failure.Message
	}
	if in.Access != nil {
		arrow.Username, arrow.SSHHost, arrow.SSHPort, arrow.SSHHostKey = &in.Access.Username, &in.Access.SSHHost, &in.Access.SSHPort, &in.Access.SSHHostKey
	}
	if in.Lease != nil {
		arrow.NodeID, arrow.Generation = &in.Lease.NodeID, &in.Lease.Generation
	}
	if in.Certificate != nil {
		body, err := json.Marshal(in.Certificate)
		if err != nil {
			return arrow, fmt.Errorf("the release certificate of %s: %w", in.AllocationID, err)
		}
		arrow.Certificate = body
	}
	return arrow, nil
}

// stands answers a repeated step from the arrow that was written before.
func stands(ctx context.Context, tx pgx.Tx, in workflows.Transition) (workflows.TransitionDone, error) {
	written, err := queries.GetTransition(ctx, tx, in.TenantID, in.AllocationID, in.Version+1)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && (written.ToState != in.To || written.FromState == nil || *written.FromState != in.From)) {
		return workflows.TransitionDone{}, fault.Newf(fault.AllocationStateConflict,
			"%s does not stand at version %d in state %s.", in.AllocationID, in.Version, in.From)
	}
	return workflows.TransitionDone{Version: written.Version}, err
}

// tell writes what others learn of an arrow: the timeline, the audit log and the outbox.
func tell(ctx context.Context, tx pgx.Tx, in workflows.Transition, arrived queries.Arrived) error {
	if err := queries.InsertTransition(ctx, tx, in.TenantID, in.AllocationID, in.Actor, queries.AllocationTransition{
		Version: arrived.Version, FromState: &in.From, ToState: in.To, At: milliseconds(in.At), Reason: in.Reason,
		NodeID: arrived.NodeID, CorrelationID: in.CorrelationID,
	}); err != nil {
		return err
	}
	details := map[string]any{"from": in.From, "to": in.To, "version": arrived.Version, "reason": in.Reason}
	if in.Cause != "" {
		details["cause"] = in.Cause
	}
	if err := queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(in.TenantID), Actor: in.Actor, Action: "allocation." + string(in.To), TargetType: "allocation",
		TargetID: string(in.AllocationID), CorrelationID: in.CorrelationID, Details: details,
	}); err != nil {
		return err
	}
	payload := allocationEvent{
		AllocationID: in.AllocationID, TenantID: in.TenantID, ProjectID: arrived.ProjectID, UserID: arrived.UserID, AccountID: arrived.AccountID,
		SKU: arrived.SKU, State: in.To, Version: arrived.Version, NodeID: arrived.NodeID, MeteredFrom: arrived.MeteredFrom, MeteredTo: arrived.MeteredTo,
		Cause: in.Cause, Reason: in.Reason, Failure: in.Failure,
	}
	for _, kind := range eventsOf(in) {
		if err := queries.InsertOutbox(ctx, tx, queries.Event{
			Type: kind, Fact: fact(in.AllocationID, arrived.Version), AggregateID: string(in.AllocationID),
			OccurredAt: in.At, CorrelationID: in.CorrelationID, Payload: payload,
		}); err != nil {
			return err
		}
	}
	return nil
}

// eventsOf lists the events of SPEC §4 that an arrow causes. A release that funds or an admin ordered says who ordered
// it as well; provisioning itself is announced when it ends, one way or the other.
func eventsOf(in workflows.Transition) []event.Type {
	switch in.To {
	case allocation.Active:
		return []event.Type{event.ProvisioningActive}
	case allocation.Failed:
		return []event.Type{event.ProvisioningFailed}
	case allocation.Released:
		return []event.Type{event.ProvisioningReleasingCompleted}
	case allocation.ReleaseFailed:
		return []event.Type{event.ProvisioningReleaseFailed}
	case allocation.Releasing:
		events := []event.Type{event.ProvisioningReleasingRequested}
		switch in.Cause {
		case allocation.CauseFunds, allocation.CauseAdmin:
			events = append(events, event.ProvisioningForceReleaseRequested)
		case allocation.CauseProvisioning:
			events = append(events, event.ProvisioningFailed)
		}
		return events
	default:
		return nil
	}
}
