// Package agent is what runs on a node: an activity-only worker for the node's own task queue, with typed tasks and no
// exec. Every decision (fence, journal, order of work, health gate, what counts as clean) is made here, once; the hands
// that touch the machine are interfaces, so that a simulated node differs from a real one in its hands alone.
// It imports domain, agent/gateway and the Temporal SDK: never the database, never the API.
package agent

import (
	"context"

	"github.com/gpuaas/gpuaas/domain/node"
)

// User is the operating-system user of one lease.
type User struct {
	Name string
	UID  int64
}

// UserOf is the user that a lease has; nobody chooses its name or number.
func UserOf(lease node.Lease) User { return User{Name: node.Username(lease), UID: node.UID(lease)} }

// Users makes and unmakes operating-system users. Every method converges: repeated, or after half of it was done, it
// ends in the same state.
type Users interface {
	// Provision makes the user with its home directory (0700), its group and no other, and answers the home.
	Provision(ctx context.Context, user User) (home string, err error)
	// Lock ends every way to log in, now and until the user is removed. A user that does not exist is locked.
	Lock(ctx context.Context, user User) error
	// Suspend ends every way to log in until Resume and takes nothing away. A user that does not exist is an error, for
	// nobody could be let in again.
	Suspend(ctx context.Context, user User) error
	// Resume lets a suspended user log in again, with the keys it had.
	Resume(ctx context.Context, user User) error
	// Remove deletes the user and its group, not its files. A user that does not exist is removed.
	Remove(ctx context.Context, user User) error
	// Tenants lists the users of leases that exist on the machine, whichever generation.
	Tenants(ctx context.Context) ([]User, error)
}

// Keys holds who may log in.
type Keys interface {
	// Set makes the user's authorized keys exactly these lines; none removes the file.
	Set(ctx context.Context, user User, lines []string) error
}

// Processes ends what a user runs.
type Processes interface {
	// Kill ends every process of the user and answers how many, returning once none is left or ctx ends.
	Kill(ctx context.Context, user User) (killed int, err error)
}

// Files removes what a user leaves behind.
type Files interface {
	// Remove deletes every file, and every object of inter-process communication, of the user, and answers how many.
	Remove(ctx context.Context, user User) (removed int64, err error)
}

// Examiner looks for what is left of a user by means of its own, not by those that removed it.
type Examiner interface {
	// Examine answers one finding for each thing it looks for.
	Examine(ctx context.Context, user User) ([]Finding, error)
}

// Finding is the outcome of one check. Remains names some of what was found; empty is a pass.
type Finding struct {
	// Check is the name that goes on the release certificate, for instance "no_process".
	Check   string
	Remains []string
}

// GPUs reads the devices.
type GPUs interface {
	// Inspect answers what is installed; a machine without a driver answers an empty report that says so.
	Inspect(ctx context.Context) (GPUReport, error)
}

// GPUReport is what the driver says of the machine.
type GPUReport struct {
	GPUs   []node.GPU
	Driver string
	CUDA   string
	// Degraded names devices that are not fit in ways that node.GPU does not carry, such as a PCIe link below its width.
	Degraded []string
	// Absent says why there are no devices, in a sentence.
	Absent string
}

// Machine says what the node is and how it is reached.
type Machine interface {
	Inventory(ctx context.Context) (node.Inventory, error)
	// FreeDiskBytes is what is left where tenants' homes lie.
	FreeDiskBytes() int64
}

// Readiness says whether the machine can take a task at all just now.
type Readiness interface {
	// Ready answers an error that fails the attempt before anything was touched.
	Ready(ctx context.Context, kind node.TaskKind) error
}

// Hands is everything that the agent can do to a machine.
type Hands struct {
	Readiness Readiness
	Users     Users
	Keys      Keys
	Processes Processes
	Files     Files
	Examiner  Examiner
	GPUs      GPUs
	Machine   Machine
}
