package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Webhooks brings the events of Stripe to whom they are for. Its tools are the database, the cluster, Stripe, the policy, the clock, the
// log, and what counts the events.
type Webhooks struct {
	Pool     *pgxpool.Pool
	Temporal client.Client
	Stripe   *stripe.Client
	Policy   IntPolicy
	Now      func() time.Time
	Log      *slog.Logger
	// Events counts what became of events, by outcome; Swept those of which no webhook told.
	Events, Swept telemetry.Counter
}

// Bind registers the steps of WebhookEvent.
func (w *Webhooks) Bind(registry worker.ActivityRegistry) {
	workflows.StepRouteEvent.Bind(registry, w.Route)
	workflows.StepTellEvent.Bind(registry, w.Tell)
	workflows.StepNoteEvent.Bind(registry, w.Note)
}

// BindSweep registers the step of StripeSweep.
func (w *Webhooks) BindSweep(registry worker.ActivityRegistry) {
	workflows.StepSweep.Bind(registry, w.Sweep)
}

// Route finds whom a stored event is for.
func (w *Webhooks) Route(ctx context.Context, in workflows.WebhookEventInput) (workflows.EventRoute, error) {
	body, err := queries.StripeEventBody(ctx, w.Pool, in.EventID)
	if err != nil {
		return workflows.EventRoute{}, err
	}
	route := workflows.EventRoute{EventID: in.EventID, Outcome: queries.StripeEventIgnored}
	if len(body) == 0 {
		return route, nil // it was erased
	}
	event, err := stripe.ReadEvent(body)
	if err != nil {
		return route, err
	}
	if !stripe.Listens(event.Type) {
		return route, nil
	}
	err = w.find(ctx, event, &route)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		route.Outcome = queries.StripeEventUnmatched
		w.Log.WarnContext(ctx, "an event is about nothing that is known here", "event_id", in.EventID, "type", event.Type)
		return route, nil
	case err != nil:
		return route, err
	}
	route.Outcome = queries.StripeEventTold
	return route, nil
}

// find fills in whom the event is for; pgx.ErrNoRows when it is about nothing of ours.
func (w *Webhooks) find(ctx context.Context, event stripe.Event, route *workflows.EventRoute) error {
	switch event.ObjectKind {
	case "refund":
		found, err := queries.RefundByStripe(ctx, w.Pool, event.ObjectID)
		if named, parseErr := id.Parse[id.Refund](event.Metadata[metadataRefund]); errors.Is(err, pgx.ErrNoRows) && parseErr == nil {
			found, err = queries.GetRefund(ctx, w.Pool, "", named)
		}
		route.RefundID, route.TenantID, route.About = found.ID, found.TenantID, string(found.ID)
		return err
	case "dispute":
		about, err := disputed(ctx, w.Pool, w.Stripe, event.PaymentIntentID)
		if err != nil {
			return err
		}
		if !about.credited {
			return w.awaitCredit(ctx, about, event.ID)
		}
		*route = disputeRoute(event.ID, event.ObjectID, about.payment)
		return nil
	case "checkout.session", "payment_intent":
		if named, parseErr := id.Parse[id.Card](event.Metadata[metadataCard]); parseErr == nil {
			found, err := queries.GetCard(ctx, w.Pool, "", named)
			route.CardID, route.TenantID, route.About = found.ID, found.TenantID, string(found.ID)
			return err
		}
		found, err := queries.PaymentOf(ctx, w.Pool, event.ObjectID, event.PaymentIntentID)
		if named, parseErr := id.Parse[id.Payment](event.Metadata[metadataPayment]); errors.Is(err, pgx.ErrNoRows) && parseErr == nil {
			found, err = queries.GetPayment(ctx, w.Pool, "", named)
		}
		route.PaymentID, route.TenantID, route.About = found.ID, found.TenantID, string(found.ID)
		return err
	default:
		return pgx.ErrNoRows
	}
}

func disputeRoute(eventID, stripeDispute string, paid queries.Payment) workflows.EventRoute {
	dispute := DisputeID(stripeDispute)
	return workflows.EventRoute{EventID: eventID, DisputeID: dispute, StripeDisputeID: stripeDispute, TenantID: paid.TenantID, About: string(dispute)}
}

// errNotCredited says that a dispute is ahead of the payment that it is about. Its event is routed again.
var errNotCredited = errors.New("the disputed payment is not credited yet")

// awaitCredit has the payment of a dispute look, so that what a bank takes back was there; pgx.ErrNoRows where it never will be.
func (w *Webhooks) awaitCredit(ctx context.Context, about disputedPayment, eventID string) error {
	if !about.coming {
		return pgx.ErrNoRows
	}
	if _, err := w.Tell(ctx, workflows.EventRoute{EventID: eventID, PaymentID: about.payment.ID, About: string(about.payment.ID)}); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s is %s", errNotCredited, about.payment.ID, about.payment.State)
}

// Tell tells whoever an event is for to look, and starts their workflow where it does not run.
func (w *Webhooks) Tell(ctx context.Context, route workflows.EventRoute) (workflows.Nothing, error) {
	var workflowID, kind string
	var input any
	switch {
	case route.PaymentID != "":
		workflowID, kind, input = workflows.PaymentWorkflowID(route.PaymentID), workflows.PaymentType, workflows.PaymentInput{PaymentID: route.PaymentID}
	case route.RefundID != "":
		workflowID, kind, input = workflows.RefundWorkflowID(route.RefundID), workflows.RefundType, workflows.RefundInput{RefundID: route.RefundID}
	case route.CardID != "":
		workflowID, kind, input = workflows.CardWorkflowID(route.CardID), workflows.CardType, workflows.CardInput{CardID: route.CardID}
	case route.DisputeID != "":
		workflowID, kind = workflows.DisputeWorkflowID(route.DisputeID), workflows.DisputeType
		input = workflows.DisputeInput{DisputeID: route.DisputeID, StripeDisputeID: route.StripeDisputeID}
	default:
		return workflows.Nothing{}, nil
	}
	_, err := w.Temporal.SignalWithStartWorkflow(ctx, workflowID, workflows.LookSignal, route.EventID, client.StartWorkflowOptions{
		TaskQueue: workflows.PaymentsQueue, StaticSummary: kind + " " + route.About, WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, kind, input)
	return workflows.Nothing{}, err
}

// Note writes down what became of an event.
func (w *Webhooks) Note(ctx context.Context, route workflows.EventRoute) (workflows.Nothing, error) {
	fresh, err := queries.EndStripeEvent(ctx, w.Pool, route.EventID, route.Outcome, route.TenantID, route.About)
	if err == nil && fresh {
		w.Events.Add(ctx, 1, route.Outcome)
	}
	return workflows.Nothing{}, err
}

const (
	// sweepOverlap is how far back a sweep looks behind the one before: Stripe's list and our clock may differ.
	sweepOverlap = 10 * time.Minute
	// sweepFirst is how far back the first sweep looks where nothing is known.
	sweepFirst = 3 * 24 * time.Hour
	// undoneAfter is how long an event may lie before somebody begins it once more.
	undoneAfter = 30 * time.Second
	undoneMost  = 200
	// unmatchedFor is for how long a dispute that is about nothing of ours is looked at again.
	unmatchedFor = 40 * 24 * time.Hour
)

// Sweep asks Stripe for the events of which no webhook told, stores them, and begins them and whatever was stored and not begun.
func (w *Webhooks) Sweep(ctx context.Context, in workflows.SweepIn) (workflows.SweepOut, error) {
	now := milliseconds(w.Now())
	out := workflows.SweepOut{Next: now.Add(-sweepOverlap)}
	since, err := w.since(ctx, in.Since, now)
	if err != nil {
		return out, err
	}
	told, err := w.Stripe.EventsSince(ctx, since)
	if err != nil {
		return out, err
	}
	var begin []string
	for _, event := range told {
		fresh, err := queries.InsertStripeEvent(ctx, w.Pool, event.Stored(queries.StripeEventAsked))
		if err != nil {
			return out, err
		}
		if fresh {
			begin = append(begin, event.ID)
		}
	}
	out.Asked = len(begin)
	w.Swept.Add(ctx, int64(out.Asked))
	undone, err := queries.UndoneStripeEvents(ctx, w.Pool, now.Add(-undoneAfter), undoneMost)
	if err != nil {
		return out, err
	}
	for _, eventID := range append(begin, undone...) {
		if err := temporal.BeginWebhookEvent(ctx, w.Temporal, eventID); err != nil {
			return out, err
		}
		out.Begun++
	}
	if out.Disputes, err = w.tellUnmatched(ctx, now); err != nil {
		return out, err
	}
	if out.Leaving, err = w.tellLeaving(ctx); err != nil {
		return out, err
	}
	if out.Forgotten, err = w.forgetCustomers(ctx); err != nil {
		return out, err
	}
	out.LookAgainSeconds, err = w.Policy.Int(ctx, authored.PaymentsReconcileSeconds)
	return out, err
}

// unmatchedMost bounds how many disputes that are about nothing of ours Stripe is asked about in one sweep.
const unmatchedMost = 50

// tellUnmatched begins the disputes whose events were about nothing that was known, and that are by now about a payment that is credited: one
// that was held and that a correction credited, for instance.
func (w *Webhooks) tellUnmatched(ctx context.Context, now time.Time) (told int, err error) {
	disputes, err := queries.UnmatchedDisputes(ctx, w.Pool, now.Add(-unmatchedFor), unmatchedMost)
	if err != nil {
		return 0, err
	}
	for _, stripeDispute := range disputes {
		found, err := w.Stripe.GetDispute(ctx, stripeDispute)
		if errors.Is(err, fault.PaymentRefused) {
			continue // Stripe does not know it
		}
		if err != nil {
			return told, err
		}
		about, err := disputed(ctx, w.Pool, w.Stripe, found.PaymentIntentID)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && !about.credited:
			continue
		case err != nil:
			return told, err
		}
		if _, err := w.Tell(ctx, disputeRoute("it was unmatched", stripeDispute, about.payment)); err != nil {
			return told, err
		}
		told++
	}
	return told, nil
}

// tellLeaving begins the workflows of the cards that Stripe is still to forget: those of a tenant that was closed, and those whose
// removal nobody could begin.
func (w *Webhooks) tellLeaving(ctx context.Context) (told int, err error) {
	cards, err := queries.LeavingCards(ctx, w.Pool, "", undoneMost)
	if err != nil {
		return 0, err
	}
	for _, card := range cards {
		if err := temporal.TellCard(ctx, w.Temporal, card.ID, "it leaves"); err != nil {
			return told, err
		}
		told++
	}
	return told, nil
}

// forgetCustomers has Stripe forget the customers that erased tenants were there. One that Stripe does not forget now is asked for by the next
// sweep, and keeps nobody else from being forgotten.
func (w *Webhooks) forgetCustomers(ctx context.Context) (forgotten int, err error) {
	leaving, err := queries.LeavingCustomers(ctx, w.Pool, undoneMost)
	if err != nil {
		return 0, err
	}
	for _, one := range leaving {
		if err := w.Stripe.DeleteCustomer(ctx, one.CustomerID); err != nil {
			w.Log.WarnContext(ctx, "Stripe still knows an erased tenant and is asked again later", "tenant_id", string(one.TenantID), "error", err.Error())
			continue
		}
		if err := queries.ForgetCustomer(ctx, w.Pool, one); err != nil {
			return forgotten, err
		}
		forgotten++
	}
	return forgotten, nil
}

func (w *Webhooks) since(ctx context.Context, asked, now time.Time) (time.Time, error) {
	if !asked.IsZero() {
		return asked, nil
	}
	newest, err := queries.NewestStripeEvent(ctx, w.Pool)
	if err != nil || newest == nil {
		return now.Add(-sweepFirst), err
	}
	return newest.Add(-sweepFirst), nil
}
