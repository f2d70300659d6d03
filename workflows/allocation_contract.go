package workflows

import (
	"encoding/json"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
)

// AllocationType is the registered name of the Allocation workflow.
const AllocationType = "Allocation"

// AllocationWorkflowID is the workflow id of an allocation.
func AllocationWorkflowID(allocationID id.Allocation) string {
	return "allocation/" + string(allocationID)
}

// AllocationInput starts, or continues, one allocation's workflow.
type AllocationInput struct {
	AllocationID id.Allocation `json:"allocation_id"`
	// AdmitBefore closes a run whose Admit never came; nothing was claimed then.
	AdmitBefore time.Time `json:"admit_before"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
	// Recalled begins from what Postgres says: an operator resumed an allocation whose run was lost with its history.
	Recalled bool `json:"recalled,omitempty"`
	// Carried is set by continue-as-new alone.
	Carried *AllocationState `json:"carried,omitempty"`
}

// Signals, updates and queries of Allocation.
const (
	// AdmitUpdate takes AdmitRequest, answers AdmitReply.
	AdmitUpdate = "admit"
	// ReleaseSignal takes ReleaseRequest, from the owner or from the end of money.
	ReleaseSignal = "release"
	// ForceReleaseSignal takes ForceReleaseRequest, from an admin.
	ForceReleaseSignal = "force_release"
	// SuspensionSignal takes SuspensionChange, from the Suspension workflow of the allocation's tenant or user.
	SuspensionSignal = "suspension"
	// ExplainQuery answers Explanation.
	ExplainQuery = "explain"
)

// AdmitRequest asks for a node. The allocation id derives from tenant, principal, operation and idempotency
// key (HMAC), so the same key is the same workflow.
type AdmitRequest struct {
	AllocationID id.Allocation      `json:"allocation_id"`
	Principal    identity.Principal `json:"principal"`
	ProjectID    id.Project         `json:"project_id"`
	SKU          id.SKU             `json:"sku"`
	Name         string             `json:"name"`
	Labels       map[string]string  `json:"labels"`
	SSHKeys      []string           `json:"ssh_keys"`
	SpendingLimit
	IdempotencyKey string `json:"idempotency_key"`
	// RequestHash is the SHA-256 of the canonical request body.
	RequestHash   []byte `json:"request_hash"`
	CorrelationID string `json:"correlation_id"`
	// RunID is filled in by the workflow: the first run of the chain that asks, which continue-as-new keeps.
	RunID string `json:"run_id"`
	// AdmitBefore is filled in by the workflow: from this instant on the step admits nothing new, so that a caller who
	// has long gone is never charged. A stored answer is still given.
	AdmitBefore time.Time `json:"admit_before"`
}

// SpendingLimit is what a tenant limits an allocation to; zero for no limit. The allocation ends by its own timer, so that its bill
// never exceeds MaxSpendMicros and its use never lasts longer than MaxDurationSeconds.
type SpendingLimit struct {
	MaxSpendMicros     money.Micros `json:"max_spend_micros,omitempty"`
	MaxDurationSeconds int64        `json:"max_duration_seconds,omitempty"`
}

// AdmitReply is the stored answer: an admission, or a refusal with its fault. Both replay.
type AdmitReply struct {
	Admitted bool `json:"admitted"`
	// Replayed says that the answer was stored by an earlier request with the same key and body.
	Replayed bool `json:"replayed"`
	// Fault is set on refusal.
	Fault *Fault `json:"fault,omitempty"`
	// OwnerRunID is the run the allocation belongs to; another run closes.
	OwnerRunID string `json:"owner_run_id,omitempty"`
	// Terms is what admission pinned; set when admitted.
	Terms *Terms `json:"terms,omitempty"`
	// Answer is the allocation as the API renders it is read from Postgres; this is the creation instant.
	CreatedAt time.Time `json:"created_at"`
	// CorrelationID is that of the request which was decided; another request with the same key sees that it is not its own.
	CorrelationID string `json:"correlation_id"`
}

// Fault is a domain fault as it crosses Temporal: a code of the catalogue, a sentence, details.
type Fault struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Details json.RawMessage `json:"details,omitempty"`
}

// Terms are what Admit pins for the life of the allocation: nothing of it moves under a running workflow.
type Terms struct {
	TenantID             id.Tenant    `json:"tenant_id"`
	ProjectID            id.Project   `json:"project_id"`
	UserID               id.User      `json:"user_id"`
	AccountID            id.Account   `json:"account_id"`
	Currency             string       `json:"currency"`
	SKU                  id.SKU       `json:"sku"`
	GPUModel             string       `json:"gpu_model"`
	GPUCount             int          `json:"gpu_count"`
	PriceID              id.Price     `json:"price_id"`
	RateMicrosPerHour    money.Micros `json:"rate_micros_per_hour"`
	WindowSeconds        int64        `json:"window_seconds"`
	WindowsPerSettlement int64        `json:"windows_per_settlement"`
	SpendingLimit
	RuntimeMode    string     `json:"runtime_mode"`
	IsolationModel string     `json:"isolation_model"`
	SSHKeys        []string   `json:"ssh_keys"`
	CorrelationID  string     `json:"correlation_id"`
	Lease          node.Lease `json:"lease"`
}

// ReleaseRequest is the payload of ReleaseSignal. AskedAt is stamped by whoever asked and clamped by the workflow to
// [anchor, now].
type ReleaseRequest struct {
	AskedAt       time.Time               `json:"asked_at"`
	Actor         identity.Actor          `json:"actor"`
	Cause         allocation.ReleaseCause `json:"cause"`
	Reason        string                  `json:"reason"`
	CorrelationID string                  `json:"correlation_id"`
}

// ForceReleaseRequest is the payload of ForceReleaseSignal. AbandonNode ends the allocation without a wipe: the
// certificate says so and the node stays quarantined with its lease open.
type ForceReleaseRequest struct {
	AskedAt       time.Time      `json:"asked_at"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	AbandonNode   bool           `json:"abandon_node"`
	CorrelationID string         `json:"correlation_id"`
}

// Explanation is what is going on right now in one allocation; the answer of ExplainQuery.
type Explanation struct {
	State   allocation.State `json:"state"`
	Version int64            `json:"version"`
	// Doing is one sentence for a person; Step and Attempt name the same thing for a program.
	Doing   string `json:"doing"`
	Step    string `json:"step,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// WaitingFor names what must happen next; NextDeadline is when the workflow acts by itself.
	WaitingFor   string     `json:"waiting_for,omitempty"`
	NextDeadline *time.Time `json:"next_deadline,omitempty"`
	NodeID       id.Node    `json:"node_id,omitempty"`
	// CostMicros is what has been settled and what has accrued since, at the moment of the query's state.
	CostMicros money.Micros `json:"cost_micros"`
	SettledTo  *time.Time   `json:"settled_to,omitempty"`
	// LimitAt is when a spending limit ends the allocation if nothing changes.
	LimitAt       *time.Time `json:"limit_at,omitempty"`
	LastError     string     `json:"last_error,omitempty"`
	GivenUpNodes  []id.Node  `json:"given_up_nodes,omitempty"`
	PendingSignal string     `json:"pending_signal,omitempty"`
	// ReleaseAsks counts the releases and force-releases heard so far, the ones that changed nothing included.
	ReleaseAsks int `json:"release_asks,omitempty"`
}

// retryAlways is for faults of ours that heal: a database that is away comes back.
var retryAlways = &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second}

// retryNever is for node tasks: ScheduleToStart time-outs are not retried by the server, so the loop is the workflow's.
var retryNever = &temporal.RetryPolicy{MaximumAttempts: 1}

// Steps of Allocation on Postgres (queue: allocations).
var (
	// StepAdmit is the one transaction that counts, checks the runway, claims a node and stores the answer.
	StepAdmit = Step[AdmitRequest, AdmitReply]{Name: "allocation.admit", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepTransition writes one arrow (compare-and-set on the version) with audit and outbox rows. Repeating it is
	// harmless: a transition already written with the same version and target answers as before.
	StepTransition = Step[Transition, TransitionDone]{Name: "allocation.transition", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepClaimAnother claims a further node of the SKU after one was given up; the old lease stays open.
	StepClaimAnother = Step[ClaimAnotherIn, ClaimAnotherOut]{Name: "allocation.claim_another", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepGiveUpNode marks a lease as given up and quarantines its node; the Node workflow is told and cleans it.
	StepGiveUpNode = Step[GiveUpNodeIn, Nothing]{Name: "allocation.give_up_node", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepCloseLease closes custody after scrub.verify at that generation.
	StepCloseLease = Step[CloseLeaseIn, Nothing]{Name: "allocation.close_lease", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepRuntimePolicy reads what a running workflow may re-read: attempts, time-outs and back-off of node work.
	StepRuntimePolicy = Step[RuntimePolicyIn, RuntimePolicy]{Name: "allocation.runtime_policy", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepPostWindows posts every due window of one allocation, in order, once.
	StepPostWindows = Step[PostWindowsIn, PostWindowsOut]{Name: "ledger.post_windows", StartToClose: 30 * time.Second, Retry: retryAlways}
	// StepRecordSuspension shows in Postgres that the meter of an allocation stands still, or that it runs again.
	StepRecordSuspension = Step[RecordSuspensionIn, Nothing]{Name: "allocation.record_suspension", StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepSettleSuspension takes the time of a suspension out of the bill.
	StepSettleSuspension = Step[SettleSuspensionIn, SettleEndOut]{Name: "ledger.settle_suspension", StartToClose: 30 * time.Second, Retry: retryAlways}
	// StepSettleEnd makes usage minus credits equal C(metered_to − metered_from) less what outages and suspensions gave back.
	StepSettleEnd = Step[SettleEndIn, SettleEndOut]{Name: "ledger.settle_end", StartToClose: 30 * time.Second, Retry: retryAlways}
)

// Steps of Allocation elsewhere.
var (
	// StepProbeKey answers the public half of the login-probe key of a lease (queue: provisioning).
	StepProbeKey = Step[ProbeKeyIn, ProbeKeyOut]{Name: "provisioning.probe_key", Queue: ProvisioningQueue, StartToClose: 5 * time.Second, Retry: retryAlways}
	// StepLoginProbe logs in over SSH as the tenant's user would (queue: provisioning).
	StepLoginProbe = Step[LoginProbeIn, LoginProbeOut]{Name: "provisioning.login_probe", Queue: ProvisioningQueue, StartToClose: 30 * time.Second, Retry: retryNever}
)

// Node tasks; the queue and the time-outs are set where they are scheduled.
var (
	TaskUserProvision   = Step[node.UserProvisionIn, node.UserProvisionOut]{Name: string(node.UserProvision), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskSSHKeysSync     = Step[node.SSHKeysSyncIn, node.SSHKeysSyncOut]{Name: string(node.SSHKeysSync), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskGPUHealth       = Step[node.GPUHealthIn, node.GPUHealthOut]{Name: string(node.GPUHealth), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskUserRevoke      = Step[node.UserRevokeIn, node.UserRevokeOut]{Name: string(node.UserRevoke), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskUserSuspend     = Step[node.UserSuspendIn, node.UserSuspendOut]{Name: string(node.UserSuspend), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskUserResume      = Step[node.UserResumeIn, node.UserResumeOut]{Name: string(node.UserResume), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskScrubRun        = Step[node.ScrubRunIn, node.ScrubRunOut]{Name: string(node.ScrubRun), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskScrubVerify     = Step[node.ScrubVerifyIn, node.ScrubVerifyOut]{Name: string(node.ScrubVerify), Heartbeat: nodeHeartbeat, Retry: retryNever}
	TaskInventoryReport = Step[node.InventoryReportIn, node.Inventory]{Name: string(node.InventoryReport), Heartbeat: nodeHeartbeat, Retry: retryNever}
)

// nodeHeartbeat is how long a node task may be silent before its attempt is given up.
const nodeHeartbeat = 25 * time.Second

// Nothing is the outcome of a step that answers nothing.
type Nothing struct{}

// Transition is one arrow to be written. Version is the version it leaves.
type Transition struct {
	AllocationID id.Allocation    `json:"allocation_id"`
	TenantID     id.Tenant        `json:"tenant_id"`
	Version      int64            `json:"version"`
	From         allocation.State `json:"from"`
	To           allocation.State `json:"to"`
	// At is workflow time, truncated to the millisecond.
	At            time.Time               `json:"at"`
	Actor         identity.Actor          `json:"actor"`
	Reason        string                  `json:"reason"`
	CorrelationID string                  `json:"correlation_id"`
	MeteredFrom   *time.Time              `json:"metered_from,omitempty"`
	MeteredTo     *time.Time              `json:"metered_to,omitempty"`
	Cause         allocation.ReleaseCause `json:"cause,omitempty"`
	Failure       *Fault                  `json:"failure,omitempty"`
	Access        *Access                 `json:"access,omitempty"`
	Lease         *node.Lease             `json:"lease,omitempty"`
	Certificate   *ReleaseCertificate     `json:"certificate,omitempty"`
}

// TransitionDone carries the version after the arrow.
type TransitionDone struct {
	Version int64 `json:"version"`
}

// Access is how the tenant reaches the node while the allocation is active.
type Access struct {
	Username   string `json:"username"`
	SSHHost    string `json:"ssh_host"`
	SSHPort    int    `json:"ssh_port"`
	SSHHostKey string `json:"ssh_host_key"`
}

// ReleaseCertificate states what was proven of the node when the allocation ended.
type ReleaseCertificate struct {
	Wiped      bool     `json:"wiped"`
	Statement  string   `json:"statement"`
	Checks     []string `json:"checks,omitempty"`
	Assurance  string   `json:"assurance,omitempty"`
	NodeID     id.Node  `json:"node_id"`
	Generation int64    `json:"generation"`
}

// ClaimAnotherIn claims a node other than the ones given up.
type ClaimAnotherIn struct {
	AllocationID id.Allocation `json:"allocation_id"`
	TenantID     id.Tenant     `json:"tenant_id"`
	SKU          id.SKU        `json:"sku"`
	// After is the lease that was given up: a repeat answers the claim that followed it.
	After node.Lease `json:"after"`
}

// ClaimAnotherOut is the new lease, or none when every node of the SKU is taken.
type ClaimAnotherOut struct {
	Lease *node.Lease `json:"lease,omitempty"`
}

// GiveUpNodeIn gives up a node that did not answer or could not be made usable.
type GiveUpNodeIn struct {
	Lease         node.Lease `json:"lease"`
	Reason        string     `json:"reason"`
	CorrelationID string     `json:"correlation_id"`
	// Abandoned keeps the node quarantined until an operator's word; otherwise the Node workflow scrubs it.
	Abandoned bool `json:"abandoned"`
}

// CloseLeaseIn closes a lease on evidence.
type CloseLeaseIn struct {
	Lease         node.Lease          `json:"lease"`
	Evidence      node.ScrubVerifyOut `json:"evidence"`
	CorrelationID string              `json:"correlation_id"`
}

// RuntimePolicyIn names the allocation for the log only.
type RuntimePolicyIn struct {
	AllocationID id.Allocation `json:"allocation_id"`
}

// RuntimePolicy is the policy that a running allocation re-reads; durations in seconds.
type RuntimePolicy struct {
	MaxNodeAttempts               int   `json:"max_node_attempts"`
	TaskMaxAttempts               int   `json:"task_max_attempts"`
	TaskScheduleToStartSeconds    int64 `json:"task_schedule_to_start_seconds"`
	TaskStartToCloseSeconds       int64 `json:"task_start_to_close_seconds"`
	TaskBackoffSeconds            int64 `json:"task_backoff_seconds"`
	LoginProbeTimeoutSeconds      int64 `json:"login_probe_timeout_seconds"`
	ReleaseMaxAttempts            int   `json:"release_max_attempts"`
	ReleaseScheduleToStartSeconds int64 `json:"release_schedule_to_start_seconds"`
	ReleaseStartToCloseSeconds    int64 `json:"release_start_to_close_seconds"`
	ReleaseBackoffInitialSeconds  int64 `json:"release_backoff_initial_seconds"`
	ReleaseBackoffMaximumSeconds  int64 `json:"release_backoff_maximum_seconds"`
}

// ProbeKeyIn names the lease whose probe key is asked for.
type ProbeKeyIn struct {
	Lease node.Lease `json:"lease"`
}

// ProbeKeyOut is the public key in authorized_keys form, without options.
type ProbeKeyOut struct {
	PublicKey string `json:"public_key"`
}

// LoginProbeIn asks for a real login.
type LoginProbeIn struct {
	Lease  node.Lease `json:"lease"`
	Access Access     `json:"access"`
	// RuntimeMode is the pinned one: in noop mode there is no node to log in to, and only Admit's pin says so.
	RuntimeMode string `json:"runtime_mode"`
}

// LoginProbeOut says how long the login took, in milliseconds.
type LoginProbeOut struct {
	LoginMS int64 `json:"login_ms"`
}
