package activities

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// WebhookDeliveries tells customers' endpoints of events. Its tools are the database, the keys that open the endpoints' secrets, the sender,
// the policy, the clock, the log, and what measures the attempts.
type WebhookDeliveries struct {
	Pool   *pgxpool.Pool
	Keys   *webhook.Keys
	Sender *webhook.Sender
	Policy *policy.Client
	Now    func() time.Time
	Log    *slog.Logger
	// Attempts counts attempts by outcome, Ended deliveries by how they ended, GivenUp the endpoints that were; Latency measures answers, in seconds.
	Attempts, Ended, GivenUp telemetry.Counter
	Latency                  telemetry.Histogram
}

// Bind registers the step of WebhookDelivery.
func (w *WebhookDeliveries) Bind(registry worker.ActivityRegistry) {
	workflows.StepAttemptDelivery.Bind(registry, w.Attempt)
}

// statusGone is how an endpoint says that it wants nothing any more.
const statusGone = 410

// Attempt sends a delivery once and writes down what came of it. It may be sent again where the answer to this step is lost before anything
// was written; the endpoint tells them apart by the id, which stays.
func (w *WebhookDeliveries) Attempt(ctx context.Context, in workflows.DeliveryAttempt) (workflows.DeliveryStanding, error) {
	delivery, err := queries.GetWebhookDelivery(ctx, w.Pool, in.DeliveryID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && delivery.Round != in.Round {
		return workflows.DeliveryStanding{}, nil
	}
	if err != nil {
		return workflows.DeliveryStanding{}, err
	}
	if standing, made, err := w.made(ctx, delivery, in); err != nil || made {
		return standing, err
	}
	endpoint, err := queries.GetWebhookEndpoint(ctx, w.Pool, delivery.EndpointID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.DeliveryStanding{}, nil
	}
	if err != nil {
		return workflows.DeliveryStanding{}, err
	}
	if endpoint.DisabledAt != nil && !delivery.Test {
		moved, err := queries.MoveWebhookDelivery(ctx, w.Pool, delivery, rules.Skipped, false, nil)
		if err == nil && moved {
			w.Ended.Add(ctx, 1, string(rules.Skipped))
		}
		return workflows.DeliveryStanding{State: rules.Skipped}, err
	}
	if w.Keys == nil {
		return workflows.DeliveryStanding{}, errors.New("this relay sends no webhooks: is GPUAAS_WEBHOOK_KEYS missing?")
	}
	values, err := w.Policy.Values(ctx)
	if err != nil {
		return workflows.DeliveryStanding{}, err
	}
	secrets, err := w.secrets(endpoint)
	if err != nil {
		w.Log.ErrorContext(ctx, "alarm: a webhook's secret cannot be opened; is a key of GPUAAS_WEBHOOK_KEYS missing?", "webhook_id", string(endpoint.ID))
		return workflows.DeliveryStanding{}, err
	}
	result := w.Sender.Send(ctx, webhook.Message{
		URL: endpoint.URL, ID: delivery.EventID, Body: []byte(delivery.Body), Secrets: secrets, AllowHTTP: values.Bool(authored.WebhooksAllowHTTP),
		Timeout: values.Seconds(authored.WebhooksRequestTimeoutSeconds), MostResponse: values.Int(authored.WebhooksResponseBytes),
	})
	if ctx.Err() != nil {
		return workflows.DeliveryStanding{}, ctx.Err() // this worker is stopping: that is no fault of the endpoint's
	}
	return w.record(ctx, values, delivery, in, result)
}

// made answers an attempt that was made before, or is not to be made any more.
func (w *WebhookDeliveries) made(ctx context.Context, delivery queries.WebhookDelivery, in workflows.DeliveryAttempt) (workflows.DeliveryStanding, bool, error) {
	standing := workflows.DeliveryStanding{State: delivery.State}
	attempts, err := queries.WebhookAttemptsOf(ctx, w.Pool, delivery)
	if err != nil {
		return standing, false, err
	}
	for _, attempt := range attempts {
		if attempt.Round == in.Round && attempt.Number == in.Number {
			standing.Outcome = attempt.Outcome
			if attempt.StatusCode != nil {
				standing.StatusCode = *attempt.StatusCode
			}
			if delivery.NextAttemptAt != nil {
				standing.RetryAfterMs = max(0, delivery.NextAttemptAt.Sub(w.Now()).Milliseconds())
			}
			return standing, true, nil
		}
	}
	return standing, delivery.State != rules.Pending, nil
}

// secrets are what a delivery is signed with: the secret, and the one before it while their overlap lasts.
func (w *WebhookDeliveries) secrets(endpoint queries.WebhookEndpoint) ([][]byte, error) {
	current, err := w.Keys.Open(endpoint.ID, endpoint.Secret)
	if err != nil {
		return nil, err
	}
	secrets := [][]byte{current}
	if endpoint.PreviousExpiresAt != nil && w.Now().Before(*endpoint.PreviousExpiresAt) {
		previous, err := w.Keys.Open(endpoint.ID, endpoint.PreviousSecret)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, previous)
	}
	return secrets, nil
}

// record writes down an attempt and what it means: for the delivery, and, unless it was a test, for the endpoint, which is given up once it
// has failed too often for too long, or said that it is gone.
func (w *WebhookDeliveries) record(ctx context.Context, values policy.Values, sent queries.WebhookDelivery, in workflows.DeliveryAttempt,
	result webhook.Result,
) (standing workflows.DeliveryStanding, err error) {
	now := milliseconds(w.Now())
	var inserted, moved, gaveUp bool
	err = store.InTx(ctx, w.Pool, func(ctx context.Context, tx pgx.Tx) error {
		standing, inserted, moved, gaveUp = workflows.DeliveryStanding{}, false, false, false
		endpoint, err := queries.HoldWebhookEndpoint(ctx, tx, sent.TenantID, sent.EndpointID)
		if err != nil {
			return err
		}
		delivery, err := queries.HoldWebhookDelivery(ctx, tx, sent.TenantID, sent.ID)
		if err != nil || delivery.Round != in.Round {
			return err
		}
		standing = workflows.DeliveryStanding{State: delivery.State, Outcome: result.Outcome, StatusCode: result.StatusCode}
		attempt := queries.WebhookAttempt{
			Round: in.Round, Number: in.Number, Outcome: result.Outcome, LatencyMs: result.Latency.Milliseconds(), Detail: result.Detail,
			Response: result.Response, StartedAt: result.StartedAt,
		}
		if result.StatusCode != 0 {
			attempt.StatusCode = &result.StatusCode
		}
		inserted, err = queries.InsertWebhookAttempt(ctx, tx, delivery, attempt)
		if err != nil || !inserted || delivery.State != rules.Pending {
			return err
		}
		givenUp := false
		if !delivery.Test {
			if givenUp, err = w.judge(ctx, tx, values, endpoint, result, now); err != nil {
				return err
			}
			gaveUp = givenUp && endpoint.DisabledAt == nil
		}
		var next *time.Time
		standing.State = rules.Failed
		if result.Outcome == rules.Accepted {
			standing.State = rules.Delivered
		} else if pause, again := retryOf(values).Next(int64(in.Number), now.Sub(delivery.RoundAt), spreadOf(string(sent.ID), in.Number)); again && !givenUp && !delivery.Test {
			at := milliseconds(now.Add(pause))
			standing.State, standing.RetryAfterMs, next = rules.Pending, pause.Milliseconds(), &at
		}
		moved, err = queries.MoveWebhookDelivery(ctx, tx, delivery, standing.State, true, next)
		return err
	})
	if err == nil && inserted {
		w.measure(ctx, result, standing.State, moved, gaveUp)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.DeliveryStanding{}, nil // deleted while it was being sent
	}
	return standing, err
}

// measure counts an attempt that is written down, and what it ended.
func (w *WebhookDeliveries) measure(ctx context.Context, result webhook.Result, state rules.State, moved, givenUp bool) {
	w.Attempts.Add(ctx, 1, string(result.Outcome))
	w.Latency.Record(ctx, result.Latency.Seconds())
	if moved && state != rules.Pending {
		w.Ended.Add(ctx, 1, string(state))
	}
	if givenUp {
		w.GivenUp.Add(ctx, 1)
	}
}

// judge writes what an attempt means for its endpoint, and says whether the endpoint is given up.
func (w *WebhookDeliveries) judge(ctx context.Context, tx pgx.Tx, values policy.Values, endpoint queries.WebhookEndpoint, result webhook.Result, now time.Time) (bool, error) {
	if endpoint.DisabledAt != nil {
		return true, nil
	}
	if result.Outcome == rules.Accepted {
		if endpoint.Failures == 0 {
			return false, nil
		}
		endpoint.Failures, endpoint.FailingSince = 0, nil
		return false, queries.UpdateWebhookEndpoint(ctx, tx, endpoint)
	}
	endpoint.Failures++
	if endpoint.FailingSince == nil {
		endpoint.FailingSince = &now
	}
	patience := rules.Patience{Failures: values.Int(authored.WebhooksDisableAfterFailures), For: values.Seconds(authored.WebhooksDisableAfterSeconds)}
	switch {
	case result.StatusCode == statusGone:
		endpoint.DisabledAt, endpoint.DisabledBecause = &now, rules.Gone
	case patience.Ended(endpoint.Failures, *endpoint.FailingSince, now):
		endpoint.DisabledAt, endpoint.DisabledBecause = &now, rules.Failing
	default:
		return false, queries.UpdateWebhookEndpoint(ctx, tx, endpoint)
	}
	return true, w.giveUp(ctx, tx, endpoint)
}

// giveUp disables an endpoint, and says so to the audit log and to the tenant's people.
func (w *WebhookDeliveries) giveUp(ctx context.Context, tx pgx.Tx, endpoint queries.WebhookEndpoint) error {
	if err := queries.UpdateWebhookEndpoint(ctx, tx, endpoint); err != nil {
		return err
	}
	correlation := "webhook/" + string(endpoint.ID)
	if err := queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(endpoint.TenantID), Actor: identity.Platform(), Action: "webhook.give_up", TargetType: "webhook", TargetID: string(endpoint.ID),
		CorrelationID: correlation, Details: map[string]any{"because": endpoint.DisabledBecause, "failures": endpoint.Failures},
	}); err != nil {
		return err
	}
	w.Log.InfoContext(ctx, "a webhook endpoint is disabled", "webhook_id", string(endpoint.ID), "tenant_id", string(endpoint.TenantID),
		"because", string(endpoint.DisabledBecause), "failures", endpoint.Failures)
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.WebhooksEndpointDisabled, Fact: string(endpoint.ID) + "/" + endpoint.DisabledAt.Format(time.RFC3339Nano), AggregateID: string(endpoint.ID),
		OccurredAt: *endpoint.DisabledAt, CorrelationID: correlation, Payload: map[string]any{
			"tenant_id": endpoint.TenantID, "webhook_id": endpoint.ID, "because": endpoint.DisabledBecause, "failures": endpoint.Failures,
			"failing_since": milliseconds(*endpoint.FailingSince),
		},
	})
}

func retryOf(values policy.Values) rules.Retry {
	return rules.Retry{
		Attempts: values.Int(authored.WebhooksDeliveryAttempts), Initial: values.Seconds(authored.WebhooksRetryInitialSeconds),
		Maximum: values.Seconds(authored.WebhooksRetryMaximumSeconds), Window: values.Seconds(authored.WebhooksRetryWindowSeconds),
	}
}
