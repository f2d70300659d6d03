package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// recorded is hands that note what they were asked, and do what a test says.
type recorded struct {
	mu      sync.Mutex
	calls   []string
	on      func(ctx context.Context, call string) error
	tenants []User
	found   []Finding
}

func (r *recorded) call(ctx context.Context, name string) error {
	r.mu.Lock()
	r.calls = append(r.calls, name)
	on := r.on
	r.mu.Unlock()
	if on != nil {
		return on(ctx, name)
	}
	return nil
}

func (r *recorded) Ready(ctx context.Context, _ node.TaskKind) error { return nil }
func (r *recorded) Provision(ctx context.Context, user User) (string, error) {
	return "/home/" + user.Name, r.call(ctx, "provision")
}
func (r *recorded) Lock(ctx context.Context, _ User) error            { return r.call(ctx, "lock") }
func (r *recorded) Suspend(ctx context.Context, _ User) error         { return r.call(ctx, "suspend") }
func (r *recorded) Resume(ctx context.Context, _ User) error          { return r.call(ctx, "resume") }
func (r *recorded) Tenants(context.Context) ([]User, error)           { return r.tenants, nil }
func (r *recorded) Set(ctx context.Context, _ User, _ []string) error { return r.call(ctx, "keys") }
func (r *recorded) Kill(ctx context.Context, _ User) (int, error)     { return 1, r.call(ctx, "kill") }
func (r *recorded) Examine(ctx context.Context, _ User) ([]Finding, error) {
	return r.found, r.call(ctx, "examine")
}
func (r *recorded) Inspect(context.Context) (GPUReport, error) { return GPUReport{}, nil }
func (r *recorded) Inventory(context.Context) (node.Inventory, error) {
	return node.Inventory{SSHHost: "h", SSHPort: 22, SSHHostKey: "k"}, nil
}
func (r *recorded) FreeDiskBytes() int64 { return 1 }

type recordedUsers struct{ *recorded }
type recordedFiles struct{ *recorded }

func (r recordedUsers) Remove(ctx context.Context, _ User) error { return r.call(ctx, "remove user") }
func (r recordedFiles) Remove(ctx context.Context, _ User) (int64, error) {
	return 7, r.call(ctx, "remove files")
}

func newTestRunner(t *testing.T, directory string) (*runner, *recorded) {
	t.Helper()
	r := &recorded{}
	journal, err := OpenJournal(directory)
	require.NoError(t, err)
	t.Cleanup(func() { _ = journal.Close() })
	fence, err := OpenFence(directory)
	require.NoError(t, err)
	run := newRunner(Hands{
		Readiness: r, Users: recordedUsers{r}, Keys: r, Processes: r, Files: recordedFiles{r}, Examiner: r, GPUs: r, Machine: r,
	}, journal, fence, slog.New(slog.DiscardHandler))
	mine := id.Node("node_a")
	run.nodeID.Store(&mine)
	return run, r
}

func provisionTask(r *runner) task[node.UserProvisionIn, node.UserProvisionOut] {
	return task[node.UserProvisionIn, node.UserProvisionOut]{
		kind: node.UserProvision, alone: true, do: r.provision, head: func(in node.UserProvisionIn) node.Task { return in.Task },
	}
}

func scrubTask(r *runner) task[node.ScrubRunIn, node.ScrubRunOut] {
	return task[node.ScrubRunIn, node.ScrubRunOut]{
		kind: node.ScrubRun, alone: true, do: r.scrub, head: func(in node.ScrubRunIn) node.Task { return in.Task },
	}
}

func provisionIn(generation int64, attempt int) node.UserProvisionIn {
	h := head(generation, "provision", attempt)
	return node.UserProvisionIn{Task: h, Username: node.Username(h.Lease())}
}

func scrubIn(generation int64, attempt int) node.ScrubRunIn {
	h := head(generation, "scrub", attempt)
	return node.ScrubRunIn{Task: h, Username: node.Username(h.Lease())}
}

func kindOf(t *testing.T, err error) (kind string, isFinal bool) {
	t.Helper()
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	return application.Type(), application.NonRetryable()
}

func TestASuccessIsReplayedAlsoByTheNextProcess(t *testing.T) {
	directory := t.TempDir()
	r, hands := newTestRunner(t, directory)
	first, err := run(t.Context(), r, provisionTask(r), provisionIn(1, 1))
	require.NoError(t, err)
	second, err := run(t.Context(), r, provisionTask(r), provisionIn(1, 1))
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, []string{"provision"}, hands.calls)

	restarted, fresh := newTestRunner(t, directory)
	third, err := run(t.Context(), restarted, provisionTask(restarted), provisionIn(1, 1))
	require.NoError(t, err)
	require.Equal(t, first, third)
	require.Empty(t, fresh.calls)
}

// Whatever call of a scrub the process dies in, the next delivery begins at the beginning and gets to the end.
func TestWhatWasBegunIsRunAgain(t *testing.T) {
	for _, at := range []string{"lock", "keys", "kill", "remove files", "remove user"} {
		directory := t.TempDir()
		r, hands := newTestRunner(t, directory)
		hands.on = func(_ context.Context, call string) error {
			if call == at {
				panic("the machine lost its power")
			}
			return nil
		}
		_, err := run(t.Context(), r, scrubTask(r), scrubIn(1, 1))
		kind, isFinal := kindOf(t, err)
		require.Equal(t, node.ErrTaskFailed, kind)
		require.False(t, isFinal)

		restarted, fresh := newTestRunner(t, directory)
		out, err := run(t.Context(), restarted, scrubTask(restarted), scrubIn(1, 1))
		require.NoError(t, err)
		require.Equal(t, int64(7), out.FilesRemoved)
		require.Equal(t, []string{"lock", "keys", "kill", "remove files", "remove user"}, fresh.calls, at)
	}
}

func TestRefusals(t *testing.T) {
	r, hands := newTestRunner(t, t.TempDir())
	_, err := run(t.Context(), r, scrubTask(r), scrubIn(2, 1))
	require.NoError(t, err)
	hands.calls = nil
	late := provisionIn(3, 1)
	late.Task.Deadline = time.Now().Add(-time.Second)
	foreign := provisionIn(3, 1)
	foreign.Task.NodeID = "node_b"
	named := provisionIn(3, 1)
	named.Username = "root"
	empty := provisionIn(3, 1)
	empty.Task.Generation, empty.Username = 0, "gpu0"
	for name, try := range map[string]struct {
		in   node.UserProvisionIn
		kind string
	}{
		"an older lease":       {provisionIn(1, 1), node.ErrStaleGeneration},
		"a lease that is over": {provisionIn(2, 9), node.ErrStaleGeneration},
		"too late":             {late, node.ErrTaskExpired},
		"another node's":       {foreign, node.ErrTaskFailed},
		"another user":         {named, node.ErrTaskFailed},
		"no generation":        {empty, node.ErrTaskFailed},
	} {
		_, err := run(t.Context(), r, provisionTask(r), try.in)
		kind, isFinal := kindOf(t, err)
		require.Equal(t, try.kind, kind, name)
		require.True(t, isFinal, name)
	}
	hands.tenants = []User{{Name: "gpu2", UID: node.FirstUID + 2}}
	_, err = run(t.Context(), r, provisionTask(r), provisionIn(4, 1))
	require.ErrorContains(t, err, "of another lease is still on this node")
	require.Empty(t, hands.calls, "nothing was touched")
}

// A task that the platform gave up ends first; its successor waits, then works.
func TestTasksDoNotOverlapAndACancellationEndsThem(t *testing.T) {
	r, hands := newTestRunner(t, t.TempDir())
	inside := make(chan struct{})
	var once sync.Once
	hands.on = func(ctx context.Context, call string) error {
		if call != "provision" {
			return nil
		}
		once.Do(func() { close(inside) })
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := run(ctx, r, provisionTask(r), provisionIn(1, 1)); first <- err }()
	<-inside
	second := make(chan error, 1)
	go func() { _, err := run(t.Context(), r, scrubTask(r), scrubIn(1, 1)); second <- err }()
	require.Eventually(t, func() bool { return r.running.Load() == 2 }, 5*time.Second, time.Millisecond)
	hands.mu.Lock()
	require.Equal(t, []string{"provision"}, hands.calls)
	hands.mu.Unlock()
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.NoError(t, <-second)
	require.Equal(t, []string{"provision", "lock", "keys", "kill", "remove files", "remove user"}, hands.calls)
}

func TestTheDeadlineEndsATask(t *testing.T) {
	r, hands := newTestRunner(t, t.TempDir())
	hands.on = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	in := provisionIn(1, 1)
	in.Task.Deadline = time.Now().Add(30 * time.Millisecond)
	_, err := run(t.Context(), r, provisionTask(r), in)
	kind, _ := kindOf(t, err)
	require.Equal(t, node.ErrTaskExpired, kind)
}

func TestVerifyNamesWhatRemains(t *testing.T) {
	for name, try := range map[string]struct {
		found  []Finding
		checks []string
	}{
		"clean":   {[]Finding{{Check: "no_process"}, {Check: "no_file"}}, []string{"no_process", "no_file"}},
		"a file":  {[]Finding{{Check: "no_process"}, {Check: "no_file", Remains: []string{"/tmp/x"}}}, nil},
		"nothing": {nil, nil},
	} {
		r, hands := newTestRunner(t, t.TempDir())
		hands.found = try.found
		h := head(1, "verify", 1)
		out, err := r.verify(t.Context(), node.ScrubVerifyIn{Task: h, Username: node.Username(h.Lease())})
		if try.checks == nil {
			kind, isFinal := kindOf(t, err)
			require.Equal(t, node.ErrScrubIncomplete, kind, name)
			require.False(t, isFinal)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, try.checks, out.Checks)
		require.Equal(t, assurance, out.Assurance)
	}
}

func TestHealthGate(t *testing.T) {
	fit := node.GPU{Model: "NVIDIA H100 80GB HBM3", RecoveryAction: RecoveryNone}
	with := func(change func(*node.GPU)) []node.GPU {
		gpu := fit
		change(&gpu)
		return []node.GPU{fit, gpu}
	}
	for name, try := range map[string]struct {
		report GPUReport
		faults int
	}{
		"fit":         {GPUReport{GPUs: []node.GPU{fit, fit}}, 0},
		"one missing": {GPUReport{GPUs: []node.GPU{fit}}, 1},
		"no driver":   {GPUReport{Absent: "the NVIDIA driver is not installed"}, 1},
		"a model":     {GPUReport{GPUs: with(func(g *node.GPU) { g.Model = "NVIDIA H100 PCIe" })}, 1},
		"ecc":         {GPUReport{GPUs: with(func(g *node.GPU) { g.UncorrectedECC = 1 })}, 1},
		"remap":       {GPUReport{GPUs: with(func(g *node.GPU) { g.PendingRowRemap = true })}, 1},
		"recovery":    {GPUReport{GPUs: with(func(g *node.GPU) { g.RecoveryAction = "gpu_reset" })}, 1},
		"pcie":        {GPUReport{GPUs: []node.GPU{fit, fit}, Degraded: []string{"GPU 1 has 8 PCIe lanes of 16"}}, 1},
	} {
		require.Len(t, unfit(try.report, "H100 80GB HBM3", 2), try.faults, name)
	}
}

func TestAuthorizedKeys(t *testing.T) {
	const (
		key   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
		other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8kpPcUZ4Q0NE7jLqk3VXJq0TkVYJ8JFdZqYhD0uQxF"
	)
	lines, err := authorizedKeys([]string{key + " me@home", key, other}, other)
	require.NoError(t, err)
	require.Equal(t, []string{`restrict,command="/bin/true" ` + other, key}, lines)
	for name, bad := range map[string]string{
		"options":   `command="/bin/sh" ` + key,
		"two lines": key + "\n" + other,
		"no key":    "hello",
		"empty":     "",
		"a comment": "# " + key,
	} {
		_, err := authorizedKeys([]string{bad}, "")
		require.Error(t, err, name)
	}
	none, err := authorizedKeys(nil, "")
	require.NoError(t, err)
	require.Empty(t, none)
}

// A suspension locks out before it ends what runs, takes nothing away, and can be undone until the end has begun.
func TestASuspensionTakesNothingAway(t *testing.T) {
	r, hands := newTestRunner(t, t.TempDir())
	name := node.Username(head(1, "suspend", 1).Lease())
	suspend := task[node.UserSuspendIn, node.UserSuspendOut]{
		kind: node.UserSuspend, alone: true, do: r.suspend, head: func(in node.UserSuspendIn) node.Task { return in.Task },
	}
	resume := task[node.UserResumeIn, node.UserResumeOut]{
		kind: node.UserResume, alone: true, do: r.resume, head: func(in node.UserResumeIn) node.Task { return in.Task },
	}
	out, err := run(t.Context(), r, suspend, node.UserSuspendIn{Task: head(1, "suspend", 1), Username: name})
	require.NoError(t, err)
	require.Equal(t, 1, out.ProcessesKilled)
	_, err = run(t.Context(), r, resume, node.UserResumeIn{Task: head(1, "resume", 2), Username: name})
	require.NoError(t, err)
	require.Equal(t, []string{"suspend", "kill", "resume"}, hands.calls)

	_, err = run(t.Context(), r, suspend, node.UserSuspendIn{Task: head(1, "suspend", 3), Username: "root"})
	require.ErrorContains(t, err, "not \"root\"")
	_, err = run(t.Context(), r, scrubTask(r), scrubIn(1, 1))
	require.NoError(t, err)
	_, err = run(t.Context(), r, resume, node.UserResumeIn{Task: head(1, "resume", 4), Username: name})
	require.ErrorContains(t, err, "comes too late")
}
