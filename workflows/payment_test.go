package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	somePayment = "pay_a"
	someRefund  = "ref_a"
	someDispute = "disp_a"
	someAccount = "acct_a"
)

// till is Postgres and the payment provider for one payment: what the provider says of it, and what was posted of it here. Every step
// may fail first, or do its work and lose its answer.
type till struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	mu  sync.Mutex

	provider       payment.State
	payment        payment.State
	refundProvider payment.RefundState
	refund         payment.RefundState
	disputed       payment.DisputeState
	dispute        payment.DisputeState
	// credits, takings, returns and bites count what was posted, told how often Funds was told, looks how often the provider was asked.
	credits, takings, returns, bites, told, looks int
	// charges counts how often the saved card was charged, forgotten how often the provider forgot one.
	charges, forgotten int
	declined           bool
	card, cardProvider payment.CardState
	refuse             error
	fail, lose         map[string]int
	late               time.Duration // of the request that the workflow was started for
	replies            []*workflows.Fault
}

func newTill(t *testing.T) *till {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	d := emptyTill(t)
	d.env = suite.NewTestWorkflowEnvironment()
	d.env.SetStartTime(start)
	d.bind(d.env)
	return d
}

func emptyTill(t *testing.T) *till {
	return &till{t: t, provider: payment.Open, refundProvider: payment.RefundPending, cardProvider: payment.CardOpen, disputed: payment.DisputeOpen,
		fail: map[string]int{}, lose: map[string]int{}}
}

// bind registers every step that the till answers.
func (d *till) bind(registry worker.ActivityRegistry) {
	bindTill(d, registry, workflows.StepRecordPayment, func(workflows.OpenPayment) (workflows.PaymentStanding, error) {
		if d.refuse != nil {
			return workflows.PaymentStanding{}, d.refuse
		}
		if d.payment == "" {
			d.payment = payment.Requested
		}
		return d.paymentStanding(), nil
	})
	bindTill(d, registry, workflows.StepOpenCheckout, func(workflows.OpenPayment) (workflows.PaymentStanding, error) {
		if d.payment == payment.Requested {
			d.payment = payment.Open
		}
		return d.paymentStanding(), nil
	})
	bindTill(d, registry, workflows.StepChargeCard, func(workflows.PaymentInput) (workflows.PaymentStanding, error) {
		if d.payment == payment.Requested {
			d.charges++
			if d.payment = payment.Processing; d.declined {
				d.payment, d.provider = payment.Failed, payment.Failed
			}
		}
		return d.paymentStanding(), nil
	})
	bindTill(d, registry, workflows.StepRecordCard, func(workflows.OpenCard) (workflows.CardStanding, error) {
		if d.refuse != nil {
			return workflows.CardStanding{}, d.refuse
		}
		if d.card == "" {
			d.card = payment.CardRequested
		}
		return d.cardStanding(), nil
	})
	bindTill(d, registry, workflows.StepOpenCardPage, func(workflows.OpenCard) (workflows.CardStanding, error) {
		if d.card == payment.CardRequested {
			d.card = payment.CardOpen
		}
		return d.cardStanding(), nil
	})
	bindTill(d, registry, workflows.StepLookCard, func(workflows.CardInput) (workflows.CardStanding, error) {
		d.looks++
		switch d.card {
		case payment.CardOpen:
			d.card = d.cardProvider
		case payment.CardLeaving:
			d.card = payment.CardGone
			d.forgotten++
		}
		return d.cardStanding(), nil
	})
	bindTill(d, registry, workflows.StepLookPayment, func(workflows.PaymentInput) (workflows.PaymentStanding, error) {
		d.looks++
		if d.payment != "" && d.payment != payment.Credited {
			if d.payment = d.provider; d.payment == payment.Credited {
				d.credits++
			}
		}
		return d.paymentStanding(), nil
	})
	bindTill(d, registry, workflows.StepAuthoriseRefund, func(workflows.RefundRequest) (workflows.Moved, error) {
		if d.refuse != nil {
			return workflows.Moved{}, d.refuse
		}
		if d.refund == "" {
			d.refund = payment.RefundPending
			d.takings++
		}
		return workflows.Moved{Changed: true, AccountID: someAccount}, nil
	})
	bindTill(d, registry, workflows.StepSendRefund, func(workflows.RefundRef) (workflows.RefundNews, error) {
		d.looks++
		return workflows.RefundNews{Known: d.refund != "", State: d.refundProvider, LookAgainSeconds: 300}, nil
	})
	bindTill(d, registry, workflows.StepSettleRefund, func(in workflows.SettleRefund) (workflows.Moved, error) {
		if in.State == payment.RefundFailed && d.refund != payment.RefundFailed {
			d.returns++
		}
		d.refund = in.State
		return workflows.Moved{Changed: in.State == payment.RefundFailed, AccountID: someAccount}, nil
	})
	bindTill(d, registry, workflows.StepLookDispute, func(workflows.DisputeInput) (workflows.DisputeStanding, error) {
		d.looks++
		changed := d.dispute != d.disputed
		if changed {
			d.bites++
		}
		d.dispute = d.disputed
		return workflows.DisputeStanding{State: d.dispute, LookAgainSeconds: 300, Moved: workflows.Moved{Changed: changed, AccountID: someAccount}}, nil
	})
	bindTill(d, registry, workflows.StepTellFunds, func(in workflows.TellFundsIn) (workflows.Nothing, error) {
		require.EqualValues(d.t, someAccount, in.AccountID)
		d.told++
		return workflows.Nothing{}, nil
	})
}

// bindTill binds a step that fails and loses its answer as often as the test says.
func bindTill[In, Out any](d *till, registry worker.ActivityRegistry, step workflows.Step[In, Out], do func(In) (Out, error)) {
	step.Bind(registry, func(_ context.Context, in In) (Out, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		var none Out
		if d.fail[step.Name]--; d.fail[step.Name] >= 0 {
			return none, errors.New("it is away")
		}
		out, err := do(in)
		if d.lose[step.Name]--; err == nil && d.lose[step.Name] >= 0 {
			return none, errors.New("the answer was lost")
		}
		return out, err
	})
}

func (d *till) paymentStanding() workflows.PaymentStanding {
	standing := workflows.PaymentStanding{State: d.payment, LookAgainSeconds: 300, Automatic: d.charges > 0}
	if d.payment != "" {
		standing.AccountID, standing.ExpiresAt = someAccount, start.Add(24*time.Hour)
	}
	return standing
}

func (d *till) cardStanding() workflows.CardStanding {
	standing := workflows.CardStanding{State: d.card, LookAgainSeconds: 300}
	if d.card != "" {
		standing.ExpiresAt = start.Add(time.Hour)
	}
	return standing
}

// at does something after so long, and tells the workflow to look when news is set.
func (d *till) at(after time.Duration, news bool, do func()) {
	d.env.RegisterDelayedCallback(func() {
		do()
		if news {
			d.env.SignalWorkflow(workflows.LookSignal, "evt_a")
		}
	}, after)
}

// ask sends an update when it is late, as the server does whose worker was away; otherwise at the start.
func (d *till) ask(update string, request any) {
	d.env.RegisterDelayedCallback(func() {
		d.env.UpdateWorkflow(update, update, &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { d.t.Errorf("rejected: %v", err) },
			OnComplete: func(reply any, err error) {
				require.NoError(d.t, err)
				switch reply := reply.(type) {
				case workflows.PaymentReply:
					d.replies = append(d.replies, reply.Fault)
				case workflows.RefundReply:
					d.replies = append(d.replies, reply.Fault)
				case workflows.CardReply:
					d.replies = append(d.replies, reply.Fault)
				}
			},
		}, request)
	}, d.late)
}

func (d *till) runPayment() {
	d.ask(workflows.OpenUpdate, workflows.OpenPayment{PaymentID: somePayment, AccountID: someAccount, AmountMicros: 10_000_000})
	d.run(workflows.Payment, workflows.PaymentInput{PaymentID: somePayment})
}

func (d *till) runRefund() {
	d.ask(workflows.AuthoriseUpdate, workflows.RefundRequest{RefundID: someRefund, PaymentID: somePayment, AmountMicros: 10_000_000})
	d.run(workflows.Refund, workflows.RefundInput{RefundID: someRefund})
}

func (d *till) run(workflowFunction, in any) {
	d.t.Helper()
	d.env.RegisterWorkflow(workflowFunction)
	d.env.ExecuteWorkflow(workflowFunction, in)
	require.True(d.t, d.env.IsWorkflowCompleted())
	require.NoError(d.t, d.env.GetWorkflowError())
}

// What goes wrong with a step: it fails before it did anything, often or once, or it did it and its answer was lost.
var mishaps = map[string]func(d *till, step string){
	"nothing":              func(*till, string) {},
	"it fails once":        func(d *till, step string) { d.fail[step] = 1 },
	"it fails five times":  func(d *till, step string) { d.fail[step] = 5 },
	"its answer is lost":   func(d *till, step string) { d.lose[step] = 1 },
	"two answers are lost": func(d *till, step string) { d.lose[step] = 2 },
}

// Whatever goes wrong with whichever step, a deposit that was paid is credited once and Funds hears of it.
func TestAPaymentIsCreditedOnce(t *testing.T) {
	for _, step := range []string{workflows.StepRecordPayment.Name, workflows.StepOpenCheckout.Name, workflows.StepLookPayment.Name, workflows.StepTellFunds.Name} {
		for mishap, cause := range mishaps {
			t.Run(step+": "+mishap, func(t *testing.T) {
				d := newTill(t)
				cause(d, step)
				d.at(10*time.Minute, true, func() { d.provider = payment.Credited })
				d.runPayment()
				require.Equal(t, payment.Credited, d.payment)
				require.Equal(t, 1, d.credits)
				require.GreaterOrEqual(t, d.told, 1)
				require.Equal(t, []*workflows.Fault{nil}, d.replies)
			})
		}
	}
}

// Where no webhook tells, the payment asks by itself, within the hour.
func TestAPaymentOfWhichNobodyTellsIsFound(t *testing.T) {
	d := newTill(t)
	d.at(3*time.Hour, false, func() { d.provider = payment.Credited })
	d.runPayment()
	require.Equal(t, 1, d.credits)
	require.Less(t, d.env.Now().Sub(start), 4*time.Hour+time.Minute)
}

func TestAPaymentThatNobodyMakesEnds(t *testing.T) {
	for _, end := range []payment.State{payment.Expired, payment.Failed, payment.Held} {
		d := newTill(t)
		d.at(20*time.Hour, end == payment.Failed, func() { d.provider = end })
		d.runPayment()
		require.Equal(t, end, d.payment)
		require.Zero(t, d.credits+d.told)
	}
}

func TestARefusedPaymentAnswersItsFaultAndEnds(t *testing.T) {
	d := newTill(t)
	d.refuse = temporal.NewNonRetryableApplicationError("too much", "amount_out_of_range", nil)
	d.runPayment()
	require.Len(t, d.replies, 1)
	require.Equal(t, "amount_out_of_range", d.replies[0].Code)
	require.Zero(t, d.credits+d.told)
}

// Hundreds of webhooks at once are one look or two, whatever order they came in.
func TestHundredsOfEventsAreFewLooks(t *testing.T) {
	d := newTill(t)
	d.at(10*time.Minute, false, func() {
		d.provider = payment.Credited
		for n := range 500 { // the environment holds no more of them at once
			d.env.SignalWorkflowSkippingWorkflowTask(workflows.LookSignal, fmt.Sprintf("evt_%d", n))
		}
		d.env.SignalWorkflow(workflows.LookSignal, "evt_last")
	})
	d.runPayment()
	require.Equal(t, 1, d.credits)
	require.Less(t, d.looks, 10)
}

// Whatever goes wrong with whichever step, what was taken out of the balance arrives, or is in it again once.
func TestARefundArrivesOrComesBack(t *testing.T) {
	steps := []string{workflows.StepAuthoriseRefund.Name, workflows.StepSendRefund.Name, workflows.StepSettleRefund.Name, workflows.StepTellFunds.Name}
	for _, end := range []payment.RefundState{payment.RefundSucceeded, payment.RefundFailed} {
		for _, step := range steps {
			for mishap, cause := range mishaps {
				t.Run(string(end)+", "+step+": "+mishap, func(t *testing.T) {
					d := newTill(t)
					cause(d, step)
					d.at(10*time.Minute, true, func() { d.refundProvider = end })
					d.runRefund()
					require.Equal(t, end, d.refund)
					require.Equal(t, 1, d.takings)
					least := 1 // that it was taken out
					if end == payment.RefundFailed {
						least = 2 // and that it came back
						require.Equal(t, 1, d.returns)
					} else {
						require.Zero(t, d.returns)
					}
					require.GreaterOrEqual(t, d.told, least)
				})
			}
		}
	}
}

// A request that reaches the workflow while its first look goes on, which knows nothing of it yet, is carried out all the same.
func TestARequestThatIsLateIsCarriedOut(t *testing.T) {
	for name, c := range map[string]struct {
		look, record string
		run          func(d *till)
		done         func(d *till) bool
	}{
		"refund":  {workflows.StepSendRefund.Name, workflows.StepAuthoriseRefund.Name, (*till).runRefund, func(d *till) bool { return d.refund == payment.RefundSucceeded }},
		"payment": {workflows.StepLookPayment.Name, workflows.StepRecordPayment.Name, (*till).runPayment, func(d *till) bool { return d.credits == 1 }},
		"card":    {workflows.StepLookCard.Name, workflows.StepRecordCard.Name, (*till).runCard, func(d *till) bool { return d.card == payment.CardSaved }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTill(t)
			d.provider, d.refundProvider, d.cardProvider = payment.Credited, payment.RefundSucceeded, payment.CardSaved
			// The first look is made again after a second, and the request, which came meanwhile, is written down after that.
			d.late, d.fail[c.look], d.fail[c.record] = time.Second/2, 1, 5
			c.run(d)
			require.Equal(t, []*workflows.Fault{nil}, d.replies)
			require.True(t, c.done(d))
		})
	}
}

func TestARefusedRefundTakesNothing(t *testing.T) {
	d := newTill(t)
	d.refuse = temporal.NewNonRetryableApplicationError("late", "refund_window_exceeded", nil)
	d.runRefund()
	require.Equal(t, "refund_window_exceeded", d.replies[0].Code)
	require.Zero(t, d.takings+d.returns+d.told)
}

// A dispute moves money when it opens and when it ends, and Funds hears of both, also when an answer was lost.
func TestADisputeIsFollowedToItsEnd(t *testing.T) {
	for _, end := range []payment.DisputeState{payment.DisputeWon, payment.DisputeLost} {
		for _, step := range []string{workflows.StepLookDispute.Name, workflows.StepTellFunds.Name} {
			for mishap, cause := range mishaps {
				t.Run(string(end)+", "+step+": "+mishap, func(t *testing.T) {
					d := newTill(t)
					cause(d, step)
					d.at(40*24*time.Hour, true, func() { d.disputed = end })
					d.run(workflows.Dispute, workflows.DisputeInput{DisputeID: someDispute})
					require.Equal(t, end, d.dispute)
					require.Equal(t, 2, d.bites)
					require.GreaterOrEqual(t, d.told, 2)
				})
			}
		}
	}
}

// What stays open for weeks goes on in a fresh history.
func TestADisputeThatLastsContinuesAsNew(t *testing.T) {
	d := newTill(t)
	d.env.RegisterWorkflow(workflows.Dispute)
	d.env.SetContinueAsNewSuggested(true)
	d.env.ExecuteWorkflow(workflows.Dispute, workflows.DisputeInput{DisputeID: someDispute})
	require.True(t, d.env.IsWorkflowCompleted())
	require.True(t, workflow.IsContinueAsNewError(d.env.GetWorkflowError()))
}
