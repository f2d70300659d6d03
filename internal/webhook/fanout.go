package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/domain/event"
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
		Applied: func(context.Context, []consumer.Message) { starter.wake() },
		Attempts: func(ctx context.Context) (int64, error) {
			return policies.Int(ctx, authored.EventsDeliveryAttempts)
		},
	}, log)
}

func fanOut(ctx context.Context, tx pgx.Tx, policies *policy.Client, message consumer.Message) error {
	if message.EventType.Audience() == event.Nobody {
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

const (
	// startersPoll is how often deliveries are looked for that nobody rang for: those that the API wrote, and those of a relay that died.
	startersPoll  = time.Second
	startersBatch = 200
	// startersAtOnce is how many workflows are begun at a time.
	startersAtOnce = 16
	// startersPause is the pause after Temporal or the database was away.
	startersPause = 2 * time.Second
)

// Starter begins the workflow of every round of deliveries that has none. Two may run: a round has one workflow, whoever begins it.
type Starter struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	rung chan struct{}
}

// Begin starts a round's workflow, or finds it.
type Begin func(context.Context, queries.DueDelivery) error

// NewStarter makes one.
func NewStarter(pool *pgxpool.Pool, log *slog.Logger) *Starter {
	return &Starter{pool: pool, log: log, rung: make(chan struct{}, 1)}
}

func (s *Starter) wake() {
	select {
	case s.rung <- struct{}{}:
	default: // woken already
	}
}

// Run begins what is due until ctx ends.
func (s *Starter) Run(ctx context.Context, begin Begin) error {
	for {
		pause := startersPoll
		begun, err := s.beginDue(ctx, begin)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.log.WarnContext(ctx, "deliveries of webhooks could not be begun and will be later", "error", err.Error())
			pause = startersPause
		case begun == startersBatch:
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.rung:
		case <-time.After(pause):
		}
	}
}

func (s *Starter) beginDue(ctx context.Context, begin Begin) (int, error) {
	due, err := queries.DueDeliveries(ctx, s.pool, startersBatch)
	if err != nil {
		return 0, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startersAtOnce)
	for _, one := range due {
		group.Go(func() error {
			if err := begin(ctx, one); err != nil {
				return err
			}
			return queries.NoteWebhookBegun(ctx, s.pool, one)
		})
	}
	return len(due), group.Wait()
}
