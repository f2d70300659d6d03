package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// The input, id, update and steps of Card are in card_contract.go.

type cardRun struct {
	watch    *watch
	id       id.Card
	standing CardStanding
	// opened says that the page was opened in this run, so that there is nothing to look at yet.
	opened bool
}

// Card opens a page on which a card is saved and keeps what the provider says was saved. It runs again when the card leaves, until the
// provider has forgotten it.
func Card(root workflow.Context, in CardInput) error {
	// Who cancels this does not keep a card at the provider.
	ctx, _ := workflow.NewDisconnectedContext(root)
	c := &cardRun{id: in.CardID, watch: newWatch(ctx)}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, OpenCardUpdate, c.open, workflow.UpdateHandlerOptions{
		Validator: c.mayOpen, Description: "Somebody's wish to save a card; Postgres keeps it, with its audit row.",
	}); err != nil {
		return err
	}
	letHandlersStart(ctx)
	c.watch.answered(ctx)
	for {
		if c.opened {
			c.watch.wait(ctx, c.standing.LookAgainSeconds, c.standing.ExpiresAt)
		}
		c.watch.drain(ctx)
		c.standing, c.opened = insist(ctx, c, StepLookCard, "Ask how "+string(c.id)+" stands", in), true
		c.show(ctx)
		// A card without a state was never recorded: nothing was asked for.
		if (c.standing.State == "" || c.standing.State.Ended()) && c.watch.quiet() {
			break
		}
		if historyIsLong(ctx, in.ContinueAfterEvents) {
			return continueLooking(ctx, CardType, in)
		}
	}
	return nil
}

func (c *cardRun) mayOpen(_ workflow.Context, asked OpenCard) error {
	if asked.CardID != c.id {
		return fmt.Errorf("the request is for %s and this workflow holds %s", asked.CardID, c.id)
	}
	return nil
}

func (c *cardRun) open(ctx workflow.Context, asked OpenCard) (CardReply, error) {
	c.watch.asked = true
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	standing, err := StepRecordCard.Run(ctx, "Record that a card is to be saved for "+string(asked.AccountID), asked)
	if err == nil && standing.State == payment.CardRequested {
		standing, err = StepOpenCardPage.Run(ctx, "Open the page on which "+string(c.id)+" is saved", asked)
	}
	if refusal := refusalOf(err); refusal != nil {
		return CardReply{Fault: refusal}, nil
	}
	if err != nil {
		return CardReply{}, err
	}
	c.standing, c.opened = standing, true
	c.show(ctx)
	return CardReply{}, nil
}

func (c *cardRun) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` is **%s**", c.id, c.standing.State))
}

func (c *cardRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a card had trouble", "step", step, "card_id", c.id, "error", err)
}

func (c *cardRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
