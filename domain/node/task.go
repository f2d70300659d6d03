package node

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
)

// TaskKind is the name of a typed node task, which is also its Temporal activity name.
type TaskKind string

const (
	UserProvision   TaskKind = "user.provision"
	UserRevoke      TaskKind = "user.revoke"
	UserSuspend     TaskKind = "user.suspend"
	UserResume      TaskKind = "user.resume"
	SSHKeysSync     TaskKind = "sshkeys.sync"
	GPUHealth       TaskKind = "gpu.health"
	ScrubRun        TaskKind = "scrub.run"
	ScrubVerify     TaskKind = "scrub.verify"
	InventoryReport TaskKind = "inventory.report"
)

// TaskKinds lists every task an agent serves. There is no exec.
func TaskKinds() []TaskKind {
	return []TaskKind{UserProvision, UserRevoke, UserSuspend, UserResume, SSHKeysSync, GPUHealth, ScrubRun, ScrubVerify, InventoryReport}
}

// Sentence says for a person what a task does; the kind itself where there is nothing to add.
func (k TaskKind) Sentence() string {
	switch k {
	case UserProvision:
		return "Make the tenant's login"
	case UserRevoke:
		return "Take the tenant's login away"
	case UserSuspend:
		return "Suspend the tenant's login"
	case UserResume:
		return "Give the tenant's login back"
	case SSHKeysSync:
		return "Put the SSH keys in place"
	case GPUHealth:
		return "Check the GPUs"
	case ScrubRun:
		return "Wipe"
	case ScrubVerify:
		return "Prove that nothing is left"
	case InventoryReport:
		return "Take the inventory"
	default:
		return string(k)
	}
}

// Task is what every node task carries: whose it is, its fence and its deadline. An agent journals it
// before acting under Key.
type Task struct {
	AllocationID id.Allocation `json:"allocation_id"`
	NodeID       id.Node       `json:"node_id"`
	Generation   int64         `json:"generation"`
	// Step tells two tasks of one kind in one allocation apart (for instance "provision" and "probe_done").
	Step    string `json:"step"`
	Attempt int    `json:"attempt"`
	// Deadline is the instant after which the result is of no use to anybody.
	Deadline time.Time `json:"deadline"`
}

// Key is the journal's key: allocation/generation/step/attempt.
func (t Task) Key() string {
	return fmt.Sprintf("%s/%d/%s/%d", t.AllocationID, t.Generation, t.Step, t.Attempt)
}

// Lease is the claim under which the task runs.
func (t Task) Lease() Lease {
	return Lease{NodeID: t.NodeID, AllocationID: t.AllocationID, Generation: t.Generation}
}

// Errors of node tasks, as ApplicationError types.
const (
	// ErrStaleGeneration: the fence refused a task of an older lease. Not retryable.
	ErrStaleGeneration = "stale_generation"
	// ErrTaskExpired: the deadline had passed before the task began. Not retryable within the attempt.
	ErrTaskExpired = "task_expired"
	// ErrGPUUnhealthy: the health gate refused the hand-over.
	ErrGPUUnhealthy = "gpu_unhealthy"
	// ErrScrubIncomplete: something of the tenant is still there.
	ErrScrubIncomplete = "scrub_incomplete"
	// ErrTaskFailed: the hands could not do the work this time.
	ErrTaskFailed = "task_failed"
)

// UserProvisionIn makes the operating-system user of a lease. The user id derives from the generation, so it is never reused.
type UserProvisionIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// UserProvisionOut says who was made and where it is reached.
type UserProvisionOut struct {
	Username string `json:"username"`
	UID      int64  `json:"uid"`
	Home     string `json:"home"`
	SSHHost  string `json:"ssh_host"`
	SSHPort  int    `json:"ssh_port"`
	// SSHHostKey is the node's public host key in authorized_keys form.
	SSHHostKey string `json:"ssh_host_key"`
}

// SSHKeysSyncIn makes the user's authorized keys exactly these (public keys in authorized_keys form).
type SSHKeysSyncIn struct {
	Task     Task     `json:"task"`
	Username string   `json:"username"`
	Keys     []string `json:"keys"`
	// ProbeKey is the platform's login-probe key, restricted to one forced command; empty removes it.
	ProbeKey string `json:"probe_key,omitempty"`
}

// SSHKeysSyncOut counts the keys in force.
type SSHKeysSyncOut struct {
	Keys int `json:"keys"`
}

// GPUHealthIn asks whether the GPUs are fit to be handed over.
type GPUHealthIn struct {
	Task          Task   `json:"task"`
	ExpectedModel string `json:"expected_model"`
	ExpectedCount int    `json:"expected_count"`
}

// GPUHealthOut lists what was found; an unfit node answers with ErrGPUUnhealthy instead.
type GPUHealthOut struct {
	GPUs []GPU `json:"gpus"`
}

// UserRevokeIn locks the user and ends its sessions and processes; files stay until scrub.run.
type UserRevokeIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// UserRevokeOut counts what was ended.
type UserRevokeOut struct {
	ProcessesKilled int `json:"processes_killed"`
}

// UserSuspendIn locks the user and ends its sessions and processes; unlike UserRevokeIn it can be undone, and takes
// nothing away that the user would find missing afterwards: files, keys and crontab stay.
type UserSuspendIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// UserSuspendOut counts what was ended.
type UserSuspendOut struct {
	ProcessesKilled int `json:"processes_killed"`
}

// UserResumeIn lets a suspended user log in again, with the keys it had.
type UserResumeIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// UserResumeOut is empty: that it is answered says that the user may log in.
type UserResumeOut struct{}

// ScrubRunIn removes the user and everything it owned on the node.
type ScrubRunIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// ScrubRunOut counts what was removed.
type ScrubRunOut struct {
	FilesRemoved    int64 `json:"files_removed"`
	ProcessesKilled int   `json:"processes_killed"`
}

// ScrubVerifyIn checks, separately from scrub.run, that nothing of the lease is left.
type ScrubVerifyIn struct {
	Task     Task   `json:"task"`
	Username string `json:"username"`
}

// ScrubVerifyOut is the evidence that goes on the release certificate.
type ScrubVerifyOut struct {
	// Checks names each check that passed, for instance "no_process", "no_user", "no_file", "gpu_memory_free".
	Checks []string `json:"checks"`
	// Assurance is the level attested: "user-revoke" or "full-reimage".
	Assurance string `json:"assurance"`
}

// InventoryReportIn asks for a fresh inventory outside the heartbeat.
type InventoryReportIn struct {
	Task Task `json:"task"`
}

// Inventory is what a node says of its hardware and how it is reached.
type Inventory struct {
	Hostname     string `json:"hostname"`
	GPUs         []GPU  `json:"gpus"`
	CPUs         int    `json:"cpus"`
	MemoryBytes  int64  `json:"memory_bytes"`
	DiskBytes    int64  `json:"disk_bytes"`
	OS           string `json:"os"`
	Kernel       string `json:"kernel"`
	Driver       string `json:"driver"`
	CUDA         string `json:"cuda"`
	SSHHost      string `json:"ssh_host"`
	SSHPort      int    `json:"ssh_port"`
	SSHHostKey   string `json:"ssh_host_key"`
	AgentVersion string `json:"agent_version"`
}

// GPU is one device as NVML names it.
type GPU struct {
	Index       int    `json:"index"`
	UUID        string `json:"uuid"`
	Model       string `json:"model"`
	MemoryBytes int64  `json:"memory_bytes"`
	// UncorrectedECC counts volatile uncorrected errors; PendingRowRemap and RecoveryAction gate the hand-over.
	UncorrectedECC  int64  `json:"uncorrected_ecc"`
	PendingRowRemap bool   `json:"pending_row_remap"`
	RecoveryAction  string `json:"recovery_action"`
}

// Username is the operating-system user of a lease: derived, never chosen by a tenant, never reused on a node.
func Username(lease Lease) string { return fmt.Sprintf("gpu%d", lease.Generation) }

// FirstUID is below every uid this platform makes; the uid of a lease is FirstUID + generation.
const FirstUID int64 = 200_000

// UID is the numeric user id of a lease.
func UID(lease Lease) int64 { return FirstUID + lease.Generation }
