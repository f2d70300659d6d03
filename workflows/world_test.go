package workflows_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	theAllocation id.Allocation = "alloc_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	firstNode     id.Node       = "node_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	secondNode    id.Node       = "node_bbbbbbbbbbbbbbbbbbbbbbbbbb"
	thirdNode     id.Node       = "node_cccccccccccccccccccccccccc"
	rate          money.Micros  = 2_500_000_007
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)

// world is Postgres, the ledger and the nodes in memory, with the rules that the database holds: arrows, versions that
// rise by one, a meter set once, usage without gap or overlap, one open lease a node. The workflow under test runs
// against it; what breaks a rule fails the test.
type world struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	// registry is where steps are bound: the test environment, or a real worker.
	registry worker.ActivityRegistry

	mu     sync.Mutex
	calls  map[string]int
	order  []string
	before map[string]func(ctx context.Context, call int) error // trouble before the effect
	after  map[string]func(call int) error                      // the effect happened, the answer is lost
	twice  bool                                                 // every step is carried out twice
	hangs  *hang                                                // a step that never answers

	answers []workflows.AdmitReply
	refusal *workflows.Fault
	owner   string

	terms                      workflows.Terms
	policy                     workflows.RuntimePolicy
	row                        workflows.Transition // the newest arrow
	version                    int64
	state                      allocation.State
	path                       []allocation.State
	transitions                []workflows.Transition
	meteredFrom                *time.Time
	meteredTo                  *time.Time
	usage                      []entry
	credits                    money.Micros
	suspendedAt, suspendedLast *time.Time
	suspensions                []billing.Period          // settled
	standing                   map[string]workflows.Hold // who is suspended
	settled                    bool
	balance                    money.Micros
	postingCap                 int

	free   []id.Node
	leases []*lease
	hosts  map[id.Node]map[string]bool // users on a node
	locked map[string]bool             // users that may not log in
	told   []string
	now    func() time.Time
}

// hang is a step that, from one of its calls on, never answers: before its effect, or after it.
type hang struct {
	step   string
	from   int
	effect bool
}

func (h *hang) at(step string, call int) bool { return h != nil && h.step == step && call >= h.from }

// hangIn has a step never answer from now on, or every step answer again. A step of a lost run may still be under way.
func (w *world) hangIn(h *hang) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = h
}

// unanswered leaves a step without an answer for ever. One in the worker itself cannot be left so: it fails, and is tried again.
func unanswered(ctx context.Context) error {
	if activity.GetInfo(ctx).IsLocalActivity {
		return errors.New("no answer")
	}
	return activity.ErrResultPending
}

type entry struct {
	period billing.Period
	amount money.Micros
}

type lease struct {
	node.Lease
	givenUp, abandoned, closed bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, calls: map[string]int{}, balance: 1_000_000_000_000,
		before: map[string]func(context.Context, int) error{}, after: map[string]func(int) error{},
		free: []id.Node{firstNode, secondNode, thirdNode}, hosts: map[id.Node]map[string]bool{}, locked: map[string]bool{}, standing: map[string]workflows.Hold{},
		terms: workflows.Terms{
			TenantID: "tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa", AccountID: "acct_aaaaaaaaaaaaaaaaaaaaaaaaaa", Currency: "USD",
			SKU: "h100-8x", GPUModel: "H100", GPUCount: 8, RateMicrosPerHour: rate, WindowSeconds: 60, WindowsPerSettlement: 1,
			RuntimeMode: workflows.RuntimeAgent, IsolationModel: "user-revoke", CorrelationID: "corr-admit",
			SSHKeys: []string{"ssh-ed25519 AAAA"},
		},
		policy: workflows.RuntimePolicy{
			MaxNodeAttempts: 3, TaskMaxAttempts: 3, TaskScheduleToStartSeconds: 30, TaskStartToCloseSeconds: 120, TaskBackoffSeconds: 2,
			LoginProbeTimeoutSeconds: 30, ReleaseMaxAttempts: 4, ReleaseScheduleToStartSeconds: 30, ReleaseStartToCloseSeconds: 300,
			ReleaseBackoffInitialSeconds: 2, ReleaseBackoffMaximumSeconds: 8,
		},
	}
	w.newRun()
	return w
}

// newRun gives the world a fresh workflow run, the first one or one continued as new.
func (w *world) newRun() {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	from := start
	if w.env != nil {
		from = w.env.Now()
	}
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(from)
	env.SetTestTimeout(20 * time.Second)
	env.RegisterWorkflow(workflows.Allocation)
	env.RegisterWorkflow(workflows.Node)
	w.env, w.now = env, env.Now
	w.registry = env
	w.bindSteps()
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(
		func(_, workflowID, _, signal string, _ any) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, signal+" "+workflowID)
			if w.before["signal"] != nil {
				return w.before["signal"](context.Background(), len(w.told))
			}
			return nil
		})
}

// bindSteps gives the registry every step of Allocation.
func (w *world) bindSteps() {
	bind(w, workflows.StepAdmit, w.admit)
	bind(w, workflows.StepRecall, w.recall)
	bind(w, workflows.StepTransition, w.transition)
	bind(w, workflows.StepClaimAnother, w.claimAnother)
	bind(w, workflows.StepGiveUpNode, w.giveUpNode)
	bind(w, workflows.StepCloseLease, w.closeLease)
	bind(w, workflows.StepRuntimePolicy, func(workflows.RuntimePolicyIn) (workflows.RuntimePolicy, error) { return w.policy, nil })
	bind(w, workflows.StepPostWindows, w.postWindows)
	bind(w, workflows.StepSettleEnd, w.settleEnd)
	bind(w, workflows.StepProbeKey, func(workflows.ProbeKeyIn) (workflows.ProbeKeyOut, error) {
		return workflows.ProbeKeyOut{PublicKey: "ssh-ed25519 PROBE"}, nil
	})
	bind(w, workflows.StepLoginProbe, func(in workflows.LoginProbeIn) (workflows.LoginProbeOut, error) {
		if !w.hosts[in.Lease.NodeID][in.Access.Username] {
			return workflows.LoginProbeOut{}, temporal.NewApplicationError("there is no such user", "refused")
		}
		return workflows.LoginProbeOut{LoginMS: 12}, nil
	})
	bind(w, workflows.TaskUserProvision, func(in node.UserProvisionIn) (node.UserProvisionOut, error) {
		w.host(in.Task.NodeID)[in.Username] = true
		return node.UserProvisionOut{Username: in.Username, SSHHost: "10.0.0.1", SSHPort: 22, SSHHostKey: "ssh-ed25519 HOST"}, nil
	})
	bind(w, workflows.TaskSSHKeysSync, func(in node.SSHKeysSyncIn) (node.SSHKeysSyncOut, error) {
		return node.SSHKeysSyncOut{Keys: len(in.Keys)}, nil
	})
	bind(w, workflows.TaskGPUHealth, func(node.GPUHealthIn) (node.GPUHealthOut, error) { return node.GPUHealthOut{}, nil })
	bind(w, workflows.StepSuspend, func(workflows.StandingChange) (workflows.Standing, error) {
		at := w.now().UTC().Truncate(time.Millisecond)
		return workflows.Standing{Suspended: true, At: at, ReleaseAt: at.Add(time.Hour)}, nil
	})
	bind(w, workflows.StepRestore, func(workflows.StandingChange) (workflows.Standing, error) { return workflows.Standing{}, nil })
	bind(w, workflows.StepAllocationsUnder, func(workflows.AllocationsUnderIn) (workflows.AllocationsUnderOut, error) {
		return workflows.AllocationsUnderOut{Allocations: []id.Allocation{theAllocation}}, nil
	})
	bind(w, workflows.StepRecordSuspension, w.recordSuspension)
	bind(w, workflows.StepSettleSuspension, w.settleSuspension)
	bind(w, workflows.TaskUserSuspend, func(in node.UserSuspendIn) (node.UserSuspendOut, error) {
		w.locked[in.Username] = true
		return node.UserSuspendOut{}, nil
	})
	bind(w, workflows.TaskUserResume, func(in node.UserResumeIn) (node.UserResumeOut, error) {
		delete(w.locked, in.Username)
		return node.UserResumeOut{}, nil
	})
	bind(w, workflows.TaskUserRevoke, func(node.UserRevokeIn) (node.UserRevokeOut, error) { return node.UserRevokeOut{}, nil })
	bind(w, workflows.TaskScrubRun, func(in node.ScrubRunIn) (node.ScrubRunOut, error) {
		delete(w.host(in.Task.NodeID), in.Username)
		return node.ScrubRunOut{}, nil
	})
	bind(w, workflows.TaskScrubVerify, func(in node.ScrubVerifyIn) (node.ScrubVerifyOut, error) {
		if w.host(in.Task.NodeID)[in.Username] {
			return node.ScrubVerifyOut{}, temporal.NewApplicationError("the user is still there", node.ErrScrubIncomplete)
		}
		return node.ScrubVerifyOut{Checks: []string{"no_user"}, Assurance: "user-revoke"}, nil
	})
}

func (w *world) host(nodeID id.Node) map[string]bool {
	if w.hosts[nodeID] == nil {
		w.hosts[nodeID] = map[string]bool{}
	}
	return w.hosts[nodeID]
}

// bind puts a step of the world behind the trouble that the test ordered.
func bind[In, Out any](w *world, step workflows.Step[In, Out], do func(In) (Out, error)) {
	step.Bind(w.registry, func(ctx context.Context, in In) (Out, error) {
		var none Out
		w.mu.Lock()
		w.calls[step.Name]++
		call, before, after, hangs := w.calls[step.Name], w.before[step.Name], w.after[step.Name], w.hangs
		hanging := hangs.at(step.Name, call)
		w.order = append(w.order, step.Name)
		w.mu.Unlock()
		if before != nil {
			if err := before(ctx, call); err != nil {
				return none, err
			}
		}
		if hanging && !hangs.effect {
			return none, unanswered(ctx)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		out, err := do(in)
		if err == nil && w.twice {
			out, err = do(in)
		}
		if err == nil && after != nil {
			if lost := after(call); lost != nil {
				return none, lost
			}
		}
		if err == nil && hanging {
			return none, unanswered(ctx)
		}
		return out, err
	})
}

func (w *world) count(step string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[step]
}

func (w *world) admit(in workflows.AdmitRequest) (workflows.AdmitReply, error) {
	if len(w.answers) > 0 {
		answer := w.answers[0]
		answer.Replayed = true
		return answer, nil
	}
	reply := workflows.AdmitReply{Admitted: w.refusal == nil, Fault: w.refusal, OwnerRunID: in.RunID, CreatedAt: w.now()}
	if w.owner != "" {
		reply.OwnerRunID = w.owner
	}
	if reply.Admitted {
		terms := w.terms
		terms.Lease = w.claim()
		reply.Terms = &terms
		w.terms = terms
		w.state, w.version = allocation.Requested, 1
		w.path = append(w.path, allocation.Requested)
	}
	w.answers = append(w.answers, reply)
	return reply, nil
}

func (w *world) claim() node.Lease {
	nodeID := w.free[0]
	w.free = w.free[1:]
	for _, held := range w.leases {
		require.False(w.t, held.NodeID == nodeID && !held.closed, "a node with an open lease is claimed by nobody")
	}
	claimed := node.Lease{NodeID: nodeID, AllocationID: theAllocation, Generation: int64(len(w.leases) + 7)}
	w.leases = append(w.leases, &lease{Lease: claimed})
	return claimed
}

func (w *world) transition(in workflows.Transition) (workflows.TransitionDone, error) {
	if w.version == in.Version+1 && w.row.To == in.To && w.row.Version == in.Version {
		return workflows.TransitionDone{Version: w.version}, nil
	}
	if w.version != in.Version || w.state != in.From {
		return workflows.TransitionDone{}, temporal.NewNonRetryableApplicationError("the version moved", string(fault.AllocationStateConflict), nil)
	}
	require.True(w.t, in.From.CanBecome(in.To), "%s → %s is no arrow", in.From, in.To)
	require.Equal(w.t, in.At.UTC().Truncate(time.Millisecond), in.At)
	require.NotEmpty(w.t, in.Actor.ID)
	require.NotEmpty(w.t, in.CorrelationID)
	if in.MeteredFrom != nil {
		require.Nil(w.t, w.meteredFrom, "the meter is set once")
		w.meteredFrom = in.MeteredFrom
	}
	if in.MeteredTo != nil {
		require.Nil(w.t, w.meteredTo, "the meter is set once")
		require.False(w.t, in.MeteredTo.Before(*w.meteredFrom))
		w.meteredTo = in.MeteredTo
	}
	require.False(w.t, in.To == allocation.Active && w.meteredFrom == nil)
	w.row, w.state, w.version = in, in.To, w.version+1
	w.path = append(w.path, in.To)
	w.transitions = append(w.transitions, in)
	return workflows.TransitionDone{Version: w.version}, nil
}

func (w *world) claimAnother(in workflows.ClaimAnotherIn) (workflows.ClaimAnotherOut, error) {
	for i, held := range w.leases {
		if held.Lease == in.After && i+1 < len(w.leases) {
			next := w.leases[i+1].Lease
			return workflows.ClaimAnotherOut{Lease: &next}, nil
		}
	}
	if len(w.free) == 0 {
		return workflows.ClaimAnotherOut{}, nil
	}
	next := w.claim()
	return workflows.ClaimAnotherOut{Lease: &next}, nil
}

func (w *world) find(wanted node.Lease) *lease {
	index := slices.IndexFunc(w.leases, func(held *lease) bool { return held.Lease == wanted })
	require.GreaterOrEqual(w.t, index, 0, "no such lease: %v", wanted)
	return w.leases[index]
}

func (w *world) giveUpNode(in workflows.GiveUpNodeIn) (workflows.Nothing, error) {
	held := w.find(in.Lease)
	held.givenUp, held.abandoned = true, in.Abandoned
	return workflows.Nothing{}, nil
}

func (w *world) closeLease(in workflows.CloseLeaseIn) (workflows.Nothing, error) {
	require.False(w.t, w.host(in.Lease.NodeID)[node.Username(in.Lease)], "custody ends only when the user is gone")
	require.NotEmpty(w.t, in.Evidence.Checks)
	w.find(in.Lease).closed = true
	return workflows.Nothing{}, nil
}

func (w *world) postWindows(in workflows.PostWindowsIn) (workflows.PostWindowsOut, error) {
	out := workflows.PostWindowsOut{PostedTo: in.To}
	if w.meteredTo != nil {
		return out, nil
	}
	require.False(w.t, in.To.After(in.Now))
	require.False(w.t, w.suspendedAt != nil && in.To.After(*w.suspendedAt), "a window is posted while the meter stands still")
	limit := 1 << 20
	if w.postingCap > 0 {
		limit = w.postingCap
	}
	for _, period := range billing.Windows(in.Meter.Anchor, in.From, in.To, window(in.Meter), limit) {
		out.ChargedMicros += w.post(in.Meter, period)
		out.PostedTo = period.End
	}
	return out, nil
}

func window(meter workflows.Meter) time.Duration {
	return time.Duration(meter.WindowSeconds) * time.Second
}

// post keeps the chain: a window starts where the last one ended, or at the anchor, and is posted once.
func (w *world) post(meter workflows.Meter, period billing.Period) money.Micros {
	amount, err := period.Amount(meter.RateMicrosPerHour, meter.Anchor)
	require.NoError(w.t, err)
	for _, posted := range w.usage {
		if posted.period.Start.Equal(period.Start) {
			return amount
		}
	}
	end := *w.meteredFrom
	if len(w.usage) > 0 {
		end = w.usage[len(w.usage)-1].period.End
	}
	require.Equal(w.t, end, period.Start, "usage has no gap and no overlap")
	w.usage = append(w.usage, entry{period: period, amount: amount})
	w.balance -= amount
	return amount
}

func (w *world) settleEnd(in workflows.SettleEndIn) (workflows.SettleEndOut, error) {
	require.NotNil(w.t, w.meteredTo, "the meter stopped in Postgres before the bill is settled")
	require.Equal(w.t, *w.meteredTo, in.To)
	from := in.Meter.Anchor
	if len(w.usage) > 0 {
		from = w.usage[len(w.usage)-1].period.End
	}
	for _, period := range billing.Windows(in.Meter.Anchor, from, in.To, window(in.Meter), 1<<20) {
		w.post(in.Meter, period)
	}
	w.settled = true
	due := w.due(in.To)
	if over := w.charged() - w.credits - due; over > 0 {
		w.credits += over
		w.balance += over
	}
	return workflows.SettleEndOut{ChargedMicros: w.charged(), CreditedMicros: w.credits, BalanceMicros: w.balance}, nil
}

func (w *world) charged() money.Micros {
	var total money.Micros
	for _, posted := range w.usage {
		total += posted.amount
	}
	return total
}

// due is the charge of the metered time up to an instant, less what suspensions took out of it.
func (w *world) due(to time.Time) money.Micros {
	due, err := billing.Charge(w.terms.RateMicrosPerHour, to.Sub(*w.meteredFrom))
	require.NoError(w.t, err)
	for _, suspension := range w.suspensions {
		if end := suspension.End; end.After(to) {
			suspension.End = to
		}
		if suspension.End.After(suspension.Start) {
			free, err := suspension.Amount(w.terms.RateMicrosPerHour, *w.meteredFrom)
			require.NoError(w.t, err)
			due -= free
		}
	}
	return due
}

// requireRight checks what must hold of every closed allocation, however it came about.
func (w *world) requireRight(outcome workflows.AllocationOutcome) {
	w.t.Helper()
	require.True(w.t, w.state.Terminal(), "the path ended at %s: %v", w.state, w.path)
	require.Equal(w.t, w.state, outcome.State)
	require.Equal(w.t, w.meteredFrom == nil, w.meteredTo == nil, "a meter that ran was stopped")
	var due money.Micros
	if w.meteredFrom != nil {
		due = w.due(*w.meteredTo)
	}
	require.Equal(w.t, due, w.charged()-w.credits, "usage less credits is the charge of the metered time")
	require.Equal(w.t, due, outcome.ChargedMicros)
	require.Equal(w.t, money.Micros(1_000_000_000_000)-due, w.balance)
	for _, held := range w.leases {
		require.True(w.t, held.closed != held.givenUp, "generation %d is either closed on evidence or given up", held.Generation)
	}
}
