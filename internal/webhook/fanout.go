package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/consumer"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// NewConsumer makes the consumer that writes a delivery for each endpoint that an event is for, in the transaction of its inbox key, and
// wakes the starter.
func NewConsumer(pool *pgxpool.Pool, bus *nats.Client, policies *policy.Client, starter *Starter, log *slog.Logger) *consumer.Consumer {
	return consumer.New(pool, bus, consumer.Config{
		Name: nats.Webhooks,
		Apply: func(ctx context.Context, tx pgx.Tx, message consumer.Message) error {
			return fanOut(ctx, tx, policies, message)
		},
		Applied: func(context.Context, []consumer.Message) { starter.Wake() },
		Attempts: func(ctx context.Context) (int64, error) {
			return policies.Int(ctx, authored.EventsDeliveryAttempts)
		},
	}, log)
}

func fanOut(ctx context.Context, tx pgx.Tx, policies *policy.Client, message consumer.Message) error {
	if !message.EventType.Audience().Tenant() { // for programs, or for those who operate the platform
		return nil
	}
	muted, err := notify.Muted(ctx, policies, message.EventType)
	if err != nil || muted {
		return err
	}
	var of struct {
		TenantID id.Tenant `json:"tenant_id"`
	}
	if err := json.Unmarshal(message.Payload, &of); err != nil {
		return fmt.Errorf("%w: its payload cannot be read: %w", consumer.ErrPoison, err)
	}
	if _, err := id.Parse[id.Tenant](string(of.TenantID)); err != nil {
		return fmt.Errorf("%w: its payload names no tenant", consumer.ErrPoison)
	}
	endpoints, err := queries.ListeningEndpoints(ctx, tx, of.TenantID, message.EventType, message.OccurredAt)
	if err != nil || len(endpoints) == 0 {
		return err
	}
	body, err := webhook.Body(message.Envelope)
	if err != nil {
		return fmt.Errorf("%w: %w", consumer.ErrPoison, err)
	}
	for _, endpoint := range endpoints {
		state := webhook.Pending
		if endpoint.Disabled {
			state = webhook.Skipped
		}
		if _, err := queries.InsertWebhookDelivery(ctx, tx, queries.WebhookDelivery{
			ID: queries.DeliveryID(endpoint.ID, message.EventID), TenantID: of.TenantID, EndpointID: endpoint.ID, EventID: message.EventID,
			EventType: message.EventType, Body: string(body), State: state,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Starter begins the workflow of every round of deliveries that has none.
type Starter = consumer.Starter[queries.DueDelivery]

// NewStarter makes one.
func NewStarter(pool *pgxpool.Pool, log *slog.Logger) *Starter {
	return consumer.NewStarter(consumer.Due[queries.DueDelivery]{
		What: "deliveries of webhooks",
		Find: func(ctx context.Context, limit int) ([]queries.DueDelivery, error) {
			return queries.DueDeliveries(ctx, pool, limit)
		},
		Begun: func(ctx context.Context, due queries.DueDelivery) error {
			return queries.NoteWebhookBegun(ctx, pool, due)
		},
	}, log)
}
