package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/workflows"
)

const someCard = "card_a"

func (d *till) runCard() {
	d.ask(workflows.OpenCardUpdate, workflows.OpenCard{CardID: someCard, AccountID: someAccount})
	d.run(workflows.Card, workflows.CardInput{CardID: someCard})
}

// Whatever goes wrong with whichever step, a card that was saved on the page is saved here, and one that leaves is forgotten.
func TestACardIsSavedAndForgotten(t *testing.T) {
	for _, step := range []string{workflows.StepRecordCard.Name, workflows.StepOpenCardPage.Name, workflows.StepLookCard.Name} {
		for mishap, cause := range mishaps {
			t.Run(step+": "+mishap, func(t *testing.T) {
				d := newTill(t)
				cause(d, step)
				d.at(10*time.Minute, true, func() { d.cardProvider = payment.CardSaved })
				d.runCard()
				require.Equal(t, payment.CardSaved, d.card)
				require.Equal(t, []*workflows.Fault{nil}, d.replies)

				leaving := newTill(t)
				leaving.card = payment.CardLeaving
				cause(leaving, step)
				leaving.run(workflows.Card, workflows.CardInput{CardID: someCard})
				require.Equal(t, payment.CardGone, leaving.card)
				require.Equal(t, 1, leaving.forgotten)
			})
		}
	}
}

func TestACardThatNobodySavesExpiresWithItsPage(t *testing.T) {
	d := newTill(t)
	d.at(59*time.Minute, false, func() { d.cardProvider = payment.CardExpired })
	d.runCard()
	require.Equal(t, payment.CardExpired, d.card)
	require.Less(t, d.env.Now().Sub(start), time.Hour+time.Minute)
}

func TestARefusedCardAnswersItsFaultAndEnds(t *testing.T) {
	d := newTill(t)
	d.refuse = temporal.NewNonRetryableApplicationError("closed", "tenant_closed", nil)
	d.runCard()
	require.Equal(t, "tenant_closed", d.replies[0].Code)
	require.Empty(t, d.card)
}

func TestACardWhosePageStaysOpenContinuesAsNew(t *testing.T) {
	d := newTill(t)
	d.card = payment.CardOpen
	d.env.RegisterWorkflow(workflows.Card)
	d.env.SetContinueAsNewSuggested(true)
	d.env.ExecuteWorkflow(workflows.Card, workflows.CardInput{CardID: someCard})
	require.True(t, d.env.IsWorkflowCompleted())
	require.True(t, workflow.IsContinueAsNewError(d.env.GetWorkflowError()))
}

// chargeable is an automatic top-up that Funds recorded.
func chargeable(t *testing.T) *till {
	d := newTill(t)
	d.payment, d.provider = payment.Requested, payment.Processing
	return d
}

// Whatever goes wrong with whichever step, the card is charged once, and the charge is credited once and not before the provider is asked
// about it.
func TestAnAutomaticTopUpIsChargedAndCreditedOnce(t *testing.T) {
	for _, step := range []string{workflows.StepChargeCard.Name, workflows.StepLookPayment.Name, workflows.StepTellFunds.Name} {
		for mishap, cause := range mishaps {
			t.Run(step+": "+mishap, func(t *testing.T) {
				d := chargeable(t)
				cause(d, step)
				d.at(10*time.Minute, true, func() {
					require.Equal(t, payment.Processing, d.payment)
					d.provider = payment.Credited
				})
				d.run(workflows.Payment, workflows.PaymentInput{PaymentID: somePayment, Charge: true})
				require.Equal(t, payment.Credited, d.payment)
				require.Equal(t, 1, d.charges)
				require.Equal(t, 1, d.credits)
				require.GreaterOrEqual(t, d.told, 1)
			})
		}
	}
}

// A charge that comes to nothing ends at once, and whoever watches the money hears of it.
func TestADeclinedTopUpEndsAndIsTold(t *testing.T) {
	for mishap, cause := range mishaps {
		t.Run(mishap, func(t *testing.T) {
			d := chargeable(t)
			d.declined = true
			cause(d, workflows.StepChargeCard.Name)
			d.run(workflows.Payment, workflows.PaymentInput{PaymentID: somePayment, Charge: true})
			require.Equal(t, payment.Failed, d.payment)
			require.Equal(t, 1, d.charges)
			require.Zero(t, d.credits)
			require.Equal(t, 1, d.told)
			require.Less(t, d.env.Now().Sub(start), 5*time.Minute)
		})
	}
}

// A charge that a bank takes days over goes on in a fresh history, which charges nothing again.
func TestAChargeIsNotRepeatedByAContinuation(t *testing.T) {
	d := chargeable(t)
	d.env.RegisterWorkflow(workflows.Payment)
	d.env.SetContinueAsNewSuggested(true)
	d.env.ExecuteWorkflow(workflows.Payment, workflows.PaymentInput{PaymentID: somePayment, Charge: true})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, d.env.GetWorkflowError(), &again)
	require.Equal(t, 1, d.charges)
	next := newTill(t)
	next.payment, next.provider = payment.Processing, payment.Credited
	var input workflows.PaymentInput
	require.NoError(t, convert(again, &input))
	require.False(t, input.Charge)
	next.run(workflows.Payment, input)
	require.Zero(t, next.charges)
	require.Equal(t, 1, next.credits)
}
