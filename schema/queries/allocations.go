package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Allocation is one row of allocations.
type Allocation struct {
	ID                   id.Allocation
	TenantID             id.Tenant
	ProjectID            id.Project
	UserID               id.User
	AccountID            id.Account
	Currency             string
	Name                 string
	Labels               map[string]string
	SSHKeys              []string `db:"ssh_keys"`
	SKU                  id.SKU   `db:"sku_id"`
	PriceID              id.Price
	RateMicrosPerHour    money.Micros
	WindowSeconds        int64
	WindowsPerSettlement int64
	// MaxSpendMicros and MaxDurationSeconds are what its tenant limits it to; nil for no limit.
	MaxSpendMicros     *money.Micros
	MaxDurationSeconds *int64
	RuntimeMode        string
	IsolationModel     string
	State              allocation.State
	Version            int64
	// NodeID and Generation are the claim in use now, or the last one.
	NodeID      *id.Node
	Generation  *int64
	Username    string
	SSHHost     string `db:"ssh_host"`
	SSHPort     int    `db:"ssh_port"`
	SSHHostKey  string `db:"ssh_host_key"`
	MeteredFrom *time.Time
	MeteredTo   *time.Time
	// SuspendedAt is since when a suspension has the meter stand still; nil while it runs.
	SuspendedAt    *time.Time
	ReleaseCause   *allocation.ReleaseCause
	FailureCode    string
	FailureMessage string
	// Certificate is the release certificate as JSON, nil until the allocation was released.
	Certificate   *json.RawMessage
	CorrelationID string
	OwnerRunID    string
	CreatedAt     time.Time
	UpdatedAt     time.Time
	EndedAt       *time.Time
}

// NewAllocation is what admission writes: a row in state requested, version 1, holding its first lease.
type NewAllocation struct {
	ID                   id.Allocation
	TenantID             id.Tenant
	ProjectID            id.Project
	UserID               id.User
	AccountID            id.Account
	Currency             string
	Name                 string
	Labels               map[string]string
	SSHKeys              []string
	SKU                  id.SKU
	PriceID              id.Price
	RateMicrosPerHour    money.Micros
	WindowSeconds        int64
	WindowsPerSettlement int64
	// MaxSpendMicros and MaxDurationSeconds are what its tenant limits it to; nil for no limit.
	MaxSpendMicros     *money.Micros
	MaxDurationSeconds *int64
	RuntimeMode        string
	IsolationModel     string
	Lease              node.Lease
	CorrelationID      string
	OwnerRunID         string
	CreatedAt          time.Time
}

// InsertAllocation writes an admitted allocation.
func InsertAllocation(ctx context.Context, db DB, a NewAllocation) error {
	labels, keys := a.Labels, a.SSHKeys
	if labels == nil {
		labels = map[string]string{}
	}
	if keys == nil {
		keys = []string{}
	}
	_, err := execute(ctx, db, "AllocationInsert", pgx.NamedArgs{
		"id": a.ID, "tenant_id": a.TenantID, "project_id": a.ProjectID, "user_id": a.UserID, "account_id": a.AccountID,
		"currency": a.Currency, "name": a.Name, "labels": labels, "ssh_keys": keys, "sku_id": a.SKU, "price_id": a.PriceID,
		"rate_micros_per_hour": int64(a.RateMicrosPerHour), "window_seconds": a.WindowSeconds, "windows_per_settlement": a.WindowsPerSettlement,
		"max_spend_micros": a.MaxSpendMicros, "max_duration_seconds": a.MaxDurationSeconds,
		"runtime_mode": a.RuntimeMode, "isolation_model": a.IsolationModel, "node_id": a.Lease.NodeID, "generation": a.Lease.Generation,
		"username": node.Username(a.Lease), "correlation_id": a.CorrelationID, "owner_run_id": a.OwnerRunID, "created_at": a.CreatedAt,
	})
	return err
}

// AllocationExists says whether the tenant has an allocation of that id.
func AllocationExists(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation) (bool, error) {
	row, err := one[struct{ Exists bool }](ctx, db, "AllocationExists", pgx.NamedArgs{"id": allocationID, "tenant_id": tenant})
	return row.Exists, err
}

// GetAllocation reads one allocation of a tenant; of any tenant when tenant is empty, which is for admins and the
// platform alone. pgx.ErrNoRows when there is none.
func GetAllocation(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation) (Allocation, error) {
	return one[Allocation](ctx, db, "AllocationGet", pgx.NamedArgs{"id": allocationID, "tenant_id": optional(tenant)})
}

// AllocationFilter selects a page of allocations, newest first. Empty fields do not filter; an empty TenantID is for
// admins alone. BeforeTime and BeforeID are the last row of the page before.
type AllocationFilter struct {
	TenantID   id.Tenant
	UserID     id.User
	ProjectID  id.Project
	States     []allocation.State
	BeforeTime time.Time
	BeforeID   id.Allocation
	Limit      int
}

// ListAllocations reads one page.
func ListAllocations(ctx context.Context, db DB, filter AllocationFilter) ([]Allocation, error) {
	var states []string
	for _, state := range filter.States {
		states = append(states, string(state))
	}
	return many[Allocation](ctx, db, "AllocationList", pgx.NamedArgs{
		"tenant_id": optional(filter.TenantID), "user_id": optional(filter.UserID), "project_id": optional(filter.ProjectID),
		"states": states, "before_time": filter.BeforeTime, "before_id": optional(filter.BeforeID), "limit": filter.Limit,
	})
}

// CountAgainstLimit counts the allocations that use up the user's slots. Only under the user's lock is the answer
// still true when it is used.
func CountAgainstLimit(ctx context.Context, db DB, tenant id.Tenant, user id.User) (int64, error) {
	row, err := one[struct{ Held int64 }](ctx, db, "AllocationCountAgainstLimit", pgx.NamedArgs{"tenant_id": tenant, "user_id": user})
	return row.Held, err
}

// CountOfTenant counts the allocations that use up the tenant's slots. Only under the lock of its account is the answer
// still true when it is used.
func CountOfTenant(ctx context.Context, db DB, tenant id.Tenant) (int64, error) {
	row, err := one[struct{ Held int64 }](ctx, db, "AllocationCountOfTenant", pgx.NamedArgs{"tenant_id": tenant})
	return row.Held, err
}

// Running is what a non-terminal allocation costs and has metered.
type Running struct {
	ID                id.Allocation
	State             allocation.State
	RateMicrosPerHour money.Micros
	MeteredFrom       *time.Time
	MeteredTo         *time.Time
}

// RunningByAccount lists the account's non-terminal allocations.
func RunningByAccount(ctx context.Context, db DB, tenant id.Tenant, account id.Account) ([]Running, error) {
	return many[Running](ctx, db, "AllocationRunningByAccount", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
}

// LockedAllocation is the part of an allocation that a claim needs, under its row lock.
type LockedAllocation struct {
	State      allocation.State
	Version    int64
	SKU        id.SKU `db:"sku_id"`
	NodeID     *id.Node
	Generation *int64
}

// LockAllocation locks the row against other writers until the transaction ends; pgx.ErrNoRows when there is none.
func LockAllocation(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation) (LockedAllocation, error) {
	return one[LockedAllocation](ctx, db, "AllocationLock", pgx.NamedArgs{"id": allocationID, "tenant_id": tenant})
}

// SetAllocationNode records the claim in use.
func SetAllocationNode(ctx context.Context, db DB, tenant id.Tenant, lease node.Lease) error {
	_, err := execute(ctx, db, "AllocationSetNode", pgx.NamedArgs{
		"id": lease.AllocationID, "tenant_id": tenant, "node_id": lease.NodeID, "generation": lease.Generation, "username": node.Username(lease),
	})
	return err
}

// SuspendAllocation shows since when the meter of an active allocation stands still; false when that suspension was shown before, whether or
// not it has ended since, or the allocation is no longer active.
func SuspendAllocation(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation, since time.Time) (bool, error) {
	changed, err := execute(ctx, db, "AllocationSuspend", pgx.NamedArgs{"id": allocationID, "tenant_id": tenant, "since": since})
	return changed == 1, err
}

// ResumeAllocation shows that the meter runs again; false when that suspension has ended before.
func ResumeAllocation(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation, since time.Time) (bool, error) {
	changed, err := execute(ctx, db, "AllocationResume", pgx.NamedArgs{"id": allocationID, "tenant_id": tenant, "since": since})
	return changed == 1, err
}

// SuspendedUnder says whether the meter of anything that a user asked for, in any tenant, stands still.
func SuspendedUnder(ctx context.Context, db DB, user id.User) (bool, error) {
	row, err := one[struct{ Suspended bool }](ctx, db, "AllocationsSuspendedUnder", pgx.NamedArgs{"user_id": user})
	return row.Suspended, err
}

// AllocationsUnder lists, by id and behind one, what has not ended of a tenant's, or of a user's in any tenant; the other of
// the two is empty.
func AllocationsUnder(ctx context.Context, db DB, tenant id.Tenant, user id.User, after id.Allocation, limit int) ([]id.Allocation, error) {
	rows, err := many[struct{ ID id.Allocation }](ctx, db, "AllocationsUnder", pgx.NamedArgs{
		"tenant_id": tenant, "user_id": user, "after": after, "limit": limit,
	})
	found := make([]id.Allocation, len(rows))
	for i, row := range rows {
		found[i] = row.ID
	}
	return found, err
}

// Arrow is one transition to be written; nil fields keep what the row holds. Version is the version it leaves.
type Arrow struct {
	AllocationID   id.Allocation
	TenantID       id.Tenant
	Version        int64
	From, To       allocation.State
	At             time.Time
	MeteredFrom    *time.Time
	MeteredTo      *time.Time
	Cause          *allocation.ReleaseCause
	FailureCode    *string
	FailureMessage *string
	Username       *string
	SSHHost        *string
	SSHPort        *int
	SSHHostKey     *string
	NodeID         *id.Node
	Generation     *int64
	Certificate    json.RawMessage
}

// Arrived is the row after the arrow, as far as its events tell of it.
type Arrived struct {
	Version     int64
	AccountID   id.Account
	UserID      id.User
	ProjectID   id.Project
	SKU         id.SKU `db:"sku_id"`
	NodeID      *id.Node
	MeteredFrom *time.Time
	MeteredTo   *time.Time
	Name        string
}

// TransitionAllocation moves the row if it still stands at the arrow's version and state; pgx.ErrNoRows otherwise.
func TransitionAllocation(ctx context.Context, db DB, a Arrow) (Arrived, error) {
	var certificate *json.RawMessage
	if len(a.Certificate) > 0 {
		certificate = &a.Certificate
	}
	return one[Arrived](ctx, db, "AllocationTransition", pgx.NamedArgs{
		"id": a.AllocationID, "tenant_id": a.TenantID, "version": a.Version, "from_state": a.From, "to_state": a.To, "at": a.At,
		"metered_from": a.MeteredFrom, "metered_to": a.MeteredTo, "release_cause": a.Cause, "failure_code": a.FailureCode,
		"failure_message": a.FailureMessage, "username": a.Username, "ssh_host": a.SSHHost, "ssh_port": a.SSHPort,
		"ssh_host_key": a.SSHHostKey, "node_id": a.NodeID, "generation": a.Generation, "certificate": certificate,
	})
}

// AllocationTransition is one row of the timeline. Version is the version after it; FromState is nil for the first.
type AllocationTransition struct {
	Version       int64
	FromState     *allocation.State
	ToState       allocation.State
	At            time.Time
	ActorID       string
	ActorRole     string
	Reason        string
	NodeID        *id.Node
	CorrelationID string
}

// InsertTransition writes one row of the timeline.
func InsertTransition(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation, actor identity.Actor, t AllocationTransition) error {
	_, err := execute(ctx, db, "AllocationTransitionInsert", pgx.NamedArgs{
		"allocation_id": allocationID, "tenant_id": tenant, "version": t.Version, "from_state": t.FromState, "to_state": t.ToState,
		"at": t.At, "actor_id": actor.ID, "actor_role": actor.Role, "reason": t.Reason, "node_id": t.NodeID, "correlation_id": t.CorrelationID,
	})
	return err
}

// GetTransition reads the transition that led to a version; pgx.ErrNoRows when there is none.
func GetTransition(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation, version int64) (AllocationTransition, error) {
	return one[AllocationTransition](ctx, db, "AllocationTransitionGet", pgx.NamedArgs{"allocation_id": allocationID, "tenant_id": tenant, "version": version})
}

// ListTransitions reads an allocation's timeline, oldest first; an empty tenant is for admins alone.
func ListTransitions(ctx context.Context, db DB, tenant id.Tenant, allocationID id.Allocation) ([]AllocationTransition, error) {
	return many[AllocationTransition](ctx, db, "AllocationTransitionList", pgx.NamedArgs{"allocation_id": allocationID, "tenant_id": optional(tenant)})
}
