package api

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type webhookAttemptBody struct {
	Round      int64  `json:"round" doc:"1, and one more each time somebody asks for the delivery again."`
	Number     int64  `json:"number" doc:"Counts from 1 in each round."`
	Outcome    string `json:"outcome" enum:"accepted,rejected,redirected,timed_out,unresolved,address_refused,scheme_refused,unreachable,tls_failed" doc:"accepted: any 2xx. rejected: any other status. redirected: 3xx, which is not followed. The others never got an answer."`
	StatusCode int64  `json:"status_code,omitempty"`
	LatencyMs  int64  `json:"latency_ms"`
	Detail     string `json:"detail,omitempty" doc:"What went wrong."`
	Response   string `json:"response,omitempty" doc:"The beginning of the answer, without secrets and control characters."`
	StartedAt  moment `json:"started_at"`
}

type webhookDeliveryBody struct {
	ID            id.Delivery          `json:"id" pattern:"^dlv_[a-z2-7]{26}$"`
	WebhookID     id.Webhook           `json:"webhook_id" pattern:"^hook_[a-z2-7]{26}$"`
	TenantID      id.Tenant            `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	EventID       string               `json:"event_id" format:"uuid" doc:"What is sent as webhook-id."`
	EventType     string               `json:"event_type"`
	Test          bool                 `json:"test"`
	State         string               `json:"state" enum:"pending,delivered,failed,skipped"`
	Round         int64                `json:"round"`
	Attempts      int64                `json:"attempts" doc:"In all rounds."`
	NextAttemptAt *moment              `json:"next_attempt_at,omitempty"`
	Body          string               `json:"body" doc:"Exactly what is sent, and signed."`
	CreatedAt     moment               `json:"created_at"`
	EndedAt       *moment              `json:"ended_at,omitempty"`
	Log           []webhookAttemptBody `json:"log,omitempty" doc:"Every attempt, in order; absent from lists."`
}

type (
	DeliveryPath struct {
		DeliveryID id.Delivery `path:"delivery_id" pattern:"^dlv_[a-z2-7]{26}$"`
	}
	deliveryListIn struct {
		WebhookPath
		State string `query:"state" enum:"pending,delivered,failed,skipped" doc:"Only those in this state."`
		Paging
	}
	redeliverWebhookIn struct {
		DeliveryPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	deliveryOut     struct{ Body webhookDeliveryBody }
	deliveryListOut struct{ Body list[webhookDeliveryBody] }
)

// testWebhook writes a delivery of something that did not happen; the relay begins it like any other.
func (s *server) testWebhook(ctx context.Context, _ *keyedWebhookIn) (*deliveryOut, error) {
	if s.config.WebhookKeys == nil {
		return nil, fault.New(fault.WebhooksDisabled, "")
	}
	row, err := theWebhook(ctx)
	if err != nil {
		return nil, err
	}
	entropy := s.derive("webhook-test", middleware.RequestOf(ctx).ID)
	eventID := uuidOf(entropy)
	payload, err := json.Marshal(map[string]any{"tenant_id": row.TenantID, "webhook_id": row.ID})
	if err != nil {
		return nil, err
	}
	body, err := rules.Body(event.Envelope{EventID: eventID, EventType: rules.TestEvent, OccurredAt: s.now(), Payload: payload})
	if err != nil {
		return nil, err
	}
	delivery := queries.WebhookDelivery{
		ID: queries.DeliveryID(row.ID, eventID), TenantID: row.TenantID, EndpointID: row.ID, EventID: eventID, EventType: rules.TestEvent, Body: string(body),
		Test: true, State: rules.Pending,
	}
	err = s.change(ctx, webhookAudit(row, "webhook.test"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldWebhookEndpoint(ctx, tx, row.TenantID, row.ID); err != nil {
			return orMissing(err, fault.WebhookNotFound)
		}
		_, err := queries.InsertWebhookDelivery(ctx, tx, delivery)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.delivery(ctx, delivery.ID)
}

// uuidOf is a version 8 UUID of some entropy.
func uuidOf(entropy [32]byte) string {
	entropy[6] = entropy[6]&0x0f | 0x80
	entropy[8] = entropy[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", entropy[0:4], entropy[4:6], entropy[6:8], entropy[8:10], entropy[10:16])
}

func (s *server) listWebhookDeliveries(ctx context.Context, in *deliveryListIn) (*deliveryListOut, error) {
	row, err := theWebhook(ctx)
	if err != nil {
		return nil, err
	}
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.WebhookDeliveriesOf(ctx, s.config.Pool, row, rules.State(in.State), page)
	if err != nil {
		return nil, err
	}
	return &deliveryListOut{Body: paged(in.Paging, rows, func(row queries.WebhookDelivery) after { return after{row.CreatedAt, string(row.ID)} }, renderDelivery)}, nil
}

func (s *server) getWebhookDelivery(ctx context.Context, in *DeliveryPath) (*deliveryOut, error) {
	return s.delivery(ctx, in.DeliveryID)
}

// redeliverWebhook begins another round, whatever came of those before.
func (s *server) redeliverWebhook(ctx context.Context, _ *redeliverWebhookIn) (*deliveryOut, error) {
	if s.config.WebhookKeys == nil {
		return nil, fault.New(fault.WebhooksDisabled, "")
	}
	row, found := middleware.At(ctx).Object.(queries.WebhookDelivery)
	if !found {
		return nil, fault.New(fault.WebhookDeliveryNotFound, "")
	}
	audit := &queries.Audit{TenantID: string(row.TenantID), Action: "webhook_delivery.redeliver", TargetType: "webhook_delivery", TargetID: string(row.ID)}
	err := s.change(ctx, audit, func(ctx context.Context, tx pgx.Tx) error {
		again, err := queries.RepeatWebhookDelivery(ctx, tx, row)
		if err == nil && !again {
			err = fault.New(fault.WebhookDeliveryPending, "")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.delivery(ctx, row.ID)
}

// delivery reads one with its attempts.
func (s *server) delivery(ctx context.Context, deliveryID id.Delivery) (*deliveryOut, error) {
	row, err := queries.GetWebhookDelivery(ctx, s.config.Pool, deliveryID)
	if err != nil {
		return nil, orMissing(err, fault.WebhookDeliveryNotFound)
	}
	attempts, err := queries.WebhookAttemptsOf(ctx, s.config.Pool, row)
	if err != nil {
		return nil, err
	}
	body := renderDelivery(row)
	for _, attempt := range attempts {
		shown := webhookAttemptBody{
			Round: int64(attempt.Round), Number: int64(attempt.Number), Outcome: string(attempt.Outcome), LatencyMs: attempt.LatencyMs, Detail: attempt.Detail,
			Response: attempt.Response, StartedAt: moment(attempt.StartedAt),
		}
		if attempt.StatusCode != nil {
			shown.StatusCode = int64(*attempt.StatusCode)
		}
		body.Log = append(body.Log, shown)
	}
	return &deliveryOut{Body: body}, nil
}

func renderDelivery(row queries.WebhookDelivery) webhookDeliveryBody {
	return webhookDeliveryBody{
		ID: row.ID, WebhookID: row.EndpointID, TenantID: row.TenantID, EventID: row.EventID, EventType: string(row.EventType), Test: row.Test, State: string(row.State),
		Round: int64(row.Round), Attempts: int64(row.Attempts), NextAttemptAt: maybe(row.NextAttemptAt), Body: row.Body, CreatedAt: moment(row.CreatedAt),
		EndedAt: maybe(row.EndedAt),
	}
}
