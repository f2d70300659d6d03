package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

const theAccount id.Account = "acct_aaaaaaaaaaaaaaaaaaaaaaaaaa"

// treasury is an account in memory: a ledger that posts by the charge rule, meters that end when they are told, and the rungs that
// were reached. Every meter's final bill is checked against integers without bounds at the end.
type treasury struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	mu  sync.Mutex

	ladder   billing.Ladder
	given    money.Micros // everything that was ever paid in
	balance  money.Micros // the ledger's
	meters   []*metered
	standing map[billing.Rung]billing.Standing
	written  []billing.Crossing // in the order of the rows
	reviews  int
	twice    bool
	before   func(call int) error // trouble before the effect of a review
	after    func(call int) error // the effect happened, the answer is lost
	deaf     map[id.Allocation]int
	calls    int
	topping  *topping
	clock    func() time.Time // the world's own, where no test environment runs
	heard    map[id.Allocation]int
	runs     int
}

type metered struct {
	id        id.Allocation
	rate      money.Micros
	anchor    time.Time // zero while it is being prepared
	end       *time.Time
	postedTo  time.Time
	settled   bool
	suspended bool
	cause     allocation.ReleaseCause
}

// hourly is a rate that costs one thousand micros a millisecond: a million a second.
const hourly = 3_600_000_000

func newTreasury(t *testing.T, balance money.Micros, rates ...money.Micros) *treasury {
	t.Helper()
	f := &treasury{
		t: t, balance: balance, given: balance, standing: map[billing.Rung]billing.Standing{}, heard: map[id.Allocation]int{}, deaf: map[id.Allocation]int{},
		ladder: billing.Ladder{ThresholdMicros: 300_000_000, Grace: 100 * time.Second},
	}
	f.newRun()
	for _, rate := range rates {
		f.begin(rate, start)
	}
	return f
}

func (f *treasury) newRun() {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	from := start
	if f.env != nil {
		from = f.env.Now()
	}
	f.runs++
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(from)
	env.SetTestTimeout(60 * time.Second)
	env.RegisterWorkflow(workflows.Funds)
	env.RegisterWorkflowWithOptions(f.charge, workflow.RegisterOptions{Name: workflows.PaymentType})
	env.RegisterActivityWithOptions(f.endCharge, activity.RegisterOptions{Name: chargeEnds})
	f.env = env
	workflows.StepReviewFunds.Bind(env, f.review)
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(
		func(_, workflowID, _, signal string, argument any) error {
			require.Equal(f.t, workflows.ReleaseSignal, signal)
			return f.obey(workflowID, argument.(workflows.ReleaseRequest))
		})
}

// begin starts a meter; a zero instant is one that is being prepared.
func (f *treasury) begin(rate money.Micros, at time.Time) *metered {
	m := &metered{id: id.Allocation(fmt.Sprintf("alloc_%026d", len(f.meters))), rate: rate}
	if !at.IsZero() {
		m.anchor = at.UTC().Truncate(time.Millisecond)
		m.postedTo = m.anchor
	}
	f.meters = append(f.meters, m)
	return m
}

func (f *treasury) now() time.Time {
	if f.clock != nil {
		return f.clock().UTC().Truncate(time.Millisecond)
	}
	return f.env.Now().UTC().Truncate(time.Millisecond)
}

// at does something at an instant and tells Funds that it did.
func (f *treasury) at(after time.Duration, do func()) {
	f.env.RegisterDelayedCallback(func() {
		f.mu.Lock()
		do()
		f.mu.Unlock()
		f.tell()
	}, start.Truncate(time.Millisecond).Add(after).Sub(f.env.Now()))
}

func (f *treasury) tell() {
	f.env.SignalWorkflow(workflows.FundsChangedSignal, workflows.FundsChange{Because: "a test", CorrelationID: "corr"})
}

func (f *treasury) deposit(amount money.Micros) { f.balance += amount; f.given += amount }

// obey ends a meter as its allocation would, and tells of it.
func (f *treasury) obey(workflowID string, ask workflows.ReleaseRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.meters {
		if workflows.AllocationWorkflowID(m.id) != workflowID {
			continue
		}
		f.heard[m.id]++
		if f.deaf[m.id] >= f.heard[m.id] {
			return errors.New("no such workflow")
		}
		m.stop(ask.AskedAt, f.now(), ask.Cause)
		f.env.RegisterDelayedCallback(f.tell, 10*time.Millisecond)
		return nil
	}
	return errors.New("no such workflow")
}

func (m *metered) stop(askedAt, now time.Time, cause allocation.ReleaseCause) {
	if m.end != nil {
		return
	}
	m.cause = cause
	end := now
	if !m.anchor.IsZero() {
		end = allocation.MeterEnd(askedAt, m.anchor, now)
	}
	m.end = &end
}

// post brings the ledger to where a worker would have it: whole windows of a minute while a meter runs, its exact end once it stopped.
func (f *treasury) post() {
	for _, m := range f.meters {
		if m.anchor.IsZero() || m.settled {
			continue
		}
		to := m.anchor.Add(f.now().Sub(m.anchor).Truncate(time.Minute))
		if m.end != nil {
			to, m.settled = *m.end, !m.suspended
		}
		before, err := billing.Charge(m.rate, m.postedTo.Sub(m.anchor))
		require.NoError(f.t, err)
		after, err := billing.Charge(m.rate, to.Sub(m.anchor))
		require.NoError(f.t, err)
		f.balance -= after - before
		m.postedTo = to
	}
}

func (f *treasury) funds() billing.Funds {
	funds := billing.Funds{BalanceMicros: f.balance}
	for _, m := range f.meters {
		if m.anchor.IsZero() || m.settled || m.rate == 0 {
			continue
		}
		postedTo := m.postedTo
		funds.Draws = append(funds.Draws, billing.Draw{Meter: billing.Meter{RateMicrosPerHour: m.rate, Anchor: m.anchor, End: m.end}, PostedTo: &postedTo})
	}
	return funds
}

func (f *treasury) review(_ context.Context, in workflows.ReviewFundsIn) (workflows.FundsReview, error) {
	require.Equal(f.t, theAccount, in.AccountID)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.before != nil {
		if err := f.before(f.calls); err != nil {
			return workflows.FundsReview{}, err
		}
	}
	review := f.judge()
	if f.twice {
		review = f.judge()
	}
	if f.after != nil {
		if err := f.after(f.calls); err != nil {
			return workflows.FundsReview{}, err
		}
	}
	return review, nil
}

// judge is the step without Postgres: it asks the same rule, writes what follows and answers what has to be done.
func (f *treasury) judge() workflows.FundsReview {
	f.reviews++
	f.post()
	funds, now := f.funds(), f.now()
	verdict, err := f.ladder.Judge(funds, f.standing, now)
	require.NoError(f.t, err)
	for _, crossing := range verdict.Crossings {
		f.written = append(f.written, crossing)
		before := f.standing[crossing.Rung]
		require.Equal(f.t, !before.Stands, crossing.Reached, "a rung is reached when it does not stand and left when it does")
		f.standing[crossing.Rung] = billing.Standing{Crossing: crossing.Number, Stands: crossing.Reached, At: crossing.At, Deadline: crossing.Deadline}
	}
	rate, err := funds.RateMicrosPerHour(now)
	require.NoError(f.t, err)
	review := workflows.FundsReview{
		At: now, Currency: "usd", BalanceMicros: funds.BalanceMicros, AvailableMicros: verdict.AvailableMicros, RateMicrosPerHour: rate,
		LowAt: verdict.LowAt, PendingAt: verdict.PendingAt, ZeroAt: verdict.ZeroAt, Next: verdict.Next,
	}
	for _, draw := range funds.Draws {
		if draw.Runs(now) {
			review.Costing++
		}
	}
	for _, rung := range billing.Rungs() {
		if standing := f.standing[rung]; standing.Stands {
			review.Standing = append(review.Standing, workflows.FundsRung{Rung: rung, Crossing: standing.Crossing, At: standing.At, Deadline: standing.Deadline})
		}
	}
	f.judgeTopUp(&review, funds)
	if verdict.Depleted {
		for _, m := range f.meters {
			if m.end == nil && m.rate > 0 {
				review.Releases = append(review.Releases, workflows.FundsRelease{AllocationID: m.id, AskedAt: *verdict.ZeroAt, Cause: allocation.CauseFunds, Reason: "the balance is used up"})
			}
		}
	}
	return review
}

// run watches until nothing costs money any more, through every continuation.
func (f *treasury) run() {
	f.runFrom(workflows.FundsInput{AccountID: theAccount, TenantID: someTenant})
}

func (f *treasury) runFrom(input workflows.FundsInput) {
	f.t.Helper()
	for {
		f.env.ExecuteWorkflow(workflows.Funds, input)
		require.True(f.t, f.env.IsWorkflowCompleted())
		err := f.env.GetWorkflowError()
		var again *workflow.ContinueAsNewError
		if !errors.As(err, &again) {
			require.NoError(f.t, err)
			f.requireRight()
			return
		}
		input = workflows.FundsInput{}
		require.NoError(f.t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &input))
		f.newRun()
	}
}

// requireRight checks the final balance against the charge rule, by integers that share nothing with the product.
func (f *treasury) requireRight() {
	f.t.Helper()
	f.post()
	want := big.NewInt(int64(f.given))
	for _, m := range f.meters {
		if m.anchor.IsZero() {
			continue
		}
		require.NotNil(f.t, m.end, "%s goes on although nobody watches", m.id)
		bill := new(big.Int).Mul(big.NewInt(int64(m.rate)), big.NewInt(m.end.Sub(m.anchor).Milliseconds()))
		want.Sub(want, bill.Div(bill, big.NewInt(3_600_000)))
	}
	require.Equal(f.t, want.Int64(), int64(f.balance), "what was given less what the charge rule says")
}

// reached lists when a rung was reached, in order.
func (f *treasury) reached(rung billing.Rung) []time.Duration {
	var instants []time.Duration
	for _, crossing := range f.written {
		if crossing.Rung == rung && crossing.Reached {
			instants = append(instants, crossing.At.Sub(start.Truncate(time.Millisecond)))
		}
	}
	return instants
}

// usedUp says what a release at exactly the end leaves: nothing, less what the meters cost in a millisecond at most.
func (f *treasury) requireUsedUp() {
	f.t.Helper()
	var perMillisecond money.Micros
	for _, m := range f.meters {
		perMillisecond += m.rate/3_600_000 + 1
	}
	require.LessOrEqual(f.t, f.balance, money.Micros(0))
	require.Greater(f.t, f.balance, -perMillisecond)
}

// continued runs one run that must end in a continuation, and answers the next run's input.
func (f *treasury) continued(input workflows.FundsInput) workflows.FundsInput {
	f.t.Helper()
	f.env.ExecuteWorkflow(workflows.Funds, input)
	var again *workflow.ContinueAsNewError
	require.True(f.t, errors.As(f.env.GetWorkflowError(), &again), "the run continues as new: %v", f.env.GetWorkflowError())
	var next workflows.FundsInput
	require.NoError(f.t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	f.newRun()
	return next
}
