package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// SuspensionType is the registered name of the Suspension workflow: one tenant, or one user, from the moment an operator
// suspends it to the moment one restores it.
const SuspensionType = "Suspension"

// Subject is who is suspended: a tenant, or a user with everything they hold in whichever tenant. One of the two is set.
type Subject struct {
	TenantID id.Tenant `json:"tenant_id,omitempty"`
	UserID   id.User   `json:"user_id,omitempty"`
}

// ID is the id of whoever is suspended.
func (s Subject) ID() string {
	if s.TenantID != "" {
		return string(s.TenantID)
	}
	return string(s.UserID)
}

// SuspensionWorkflowID is the workflow id of a subject's suspension.
func SuspensionWorkflowID(subject Subject) string { return "suspension/" + subject.ID() }

// SuspensionInput starts, or continues, one subject's workflow.
type SuspensionInput struct {
	Subject Subject `json:"subject"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
	// Carried is set by continue-as-new alone.
	Carried *SuspensionState `json:"carried,omitempty"`
}

// Updates of Suspension. Both take StandingChange and answer StandingReply once Postgres holds the change; the subject's
// allocations are told of it right after.
const (
	SuspendUpdate = "suspend"
	RestoreUpdate = "restore"
)

// StandingChange is an operator's order about a subject. RequestID is the request's: a repeat of it changes nothing more.
type StandingChange struct {
	Subject       Subject        `json:"subject"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	RequestID     string         `json:"request_id"`
	CorrelationID string         `json:"correlation_id"`
}

// StandingReply is how the subject stands after a change, or the fault that refused it.
type StandingReply struct {
	Standing
	Fault *Fault `json:"fault,omitempty"`
}

// Standing is whether a subject is suspended, since when, and until when what it holds stays: UTC milliseconds, zero unless
// suspended.
type Standing struct {
	Suspended bool      `json:"suspended"`
	At        time.Time `json:"at"`
	ReleaseAt time.Time `json:"release_at"`
}

// AllocationsUnderIn asks for the subject's allocations that have not ended, by id, behind After.
type AllocationsUnderIn struct {
	Subject Subject       `json:"subject"`
	After   id.Allocation `json:"after,omitempty"`
	Limit   int           `json:"limit"`
}

// AllocationsUnderOut is one page; a page that is not full is the last.
type AllocationsUnderOut struct {
	Allocations []id.Allocation `json:"allocations"`
}

// Steps of Suspension on Postgres (queue: allocations).
var (
	// StepSuspend writes that the subject is suspended, with its audit row; a repeat of the request answers as before.
	StepSuspend = Step[StandingChange, Standing]{Name: "standing.suspend", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepRestore writes that the subject is active again.
	StepRestore = Step[StandingChange, Standing]{Name: "standing.restore", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepAllocationsUnder lists what the subject holds. What is admitted later was admitted by somebody not suspended.
	StepAllocationsUnder = Step[AllocationsUnderIn, AllocationsUnderOut]{Name: "standing.allocations", StartToClose: 10 * time.Second, Retry: retryAlways}
)
