// Package notify tells people of events: it writes a notification for each event that has an audience, in the transaction of its
// consumer, and wakes whoever waits for it through Redis. The notifications themselves are read from PostgreSQL alone, so that nobody
// misses one when Redis is away or forgets. It imports domain, schema/queries and internal packages.
package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/consumer"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// mutes are the policies that keep an event from being delivered. The event is published all the same, and so is what it tells of.
var mutes = map[event.Type]authored.BoolKey{
	event.BillingLowBalanceWarning: authored.NotificationLowBalanceEnabled,
	event.BillingBalanceDepleted:   authored.NotificationBalanceDepletedEnabled,
}

// place is what a payload says about where an event belongs.
type place struct {
	TenantID  id.Tenant  `json:"tenant_id"`
	ProjectID id.Project `json:"project_id"`
	UserID    id.User    `json:"user_id"`
}

// Notifier writes notifications and wakes people.
type Notifier struct {
	policies *policy.Client
	cache    *redis.Client
	log      *slog.Logger
}

// NewConsumer makes the consumer that tells people.
func NewConsumer(pool *pgxpool.Pool, bus *nats.Client, cache *redis.Client, policies *policy.Client, log *slog.Logger) *consumer.Consumer {
	n := &Notifier{policies: policies, cache: cache, log: log}
	return consumer.New(pool, bus, consumer.Config{
		Name: nats.Notifications, Apply: n.apply, Applied: n.wake,
		Prepare: func(ctx context.Context, tx pgx.Tx) error { return queries.LockNotifications(ctx, tx) },
		Attempts: func(ctx context.Context) (int64, error) {
			return policies.Int(ctx, authored.EventsDeliveryAttempts)
		},
	}, log)
}

func (n *Notifier) apply(ctx context.Context, tx pgx.Tx, message consumer.Message) error {
	audience := message.EventType.Audience()
	if !audience.People() {
		return nil
	}
	muted, err := Muted(ctx, n.policies, message.EventType)
	if err != nil || muted {
		return err
	}
	at, err := placeOf(message)
	if err != nil {
		return err
	}
	return queries.InsertNotification(ctx, tx, queries.NewNotification{
		TenantID: at.TenantID, EventID: message.EventID, EventType: message.EventType, Audience: audience,
		ProjectID: at.ProjectID, UserID: at.UserID, Event: message.Body,
	})
}

func placeOf(message consumer.Message) (place, error) {
	var at place
	if err := json.Unmarshal(message.Payload, &at); err != nil {
		return at, fmt.Errorf("%w: its payload cannot be read: %w", consumer.ErrPoison, err)
	}
	if !message.EventType.Audience().Tenant() {
		return place{}, nil // whatever it names, it is told of to nobody there
	}
	if _, err := id.Parse[id.Tenant](string(at.TenantID)); err != nil {
		return at, fmt.Errorf("%w: its payload names no tenant", consumer.ErrPoison)
	}
	return at, nil
}

// Muted says whether policy keeps an event from being delivered to anybody.
func Muted(ctx context.Context, policies *policy.Client, kind event.Type) (bool, error) {
	key, mutable := mutes[kind]
	if !mutable {
		return false, nil
	}
	enabled, err := policies.Bool(ctx, key)
	return !enabled, err
}

// wake tells everybody who waits for notifications of these tenants, or as an operator, that there are some. Whoever is not reached looks by
// themselves after a while.
func (n *Notifier) wake(ctx context.Context, messages []consumer.Message) {
	woken := map[string]bool{}
	for _, message := range messages {
		at, err := placeOf(message)
		whom := string(at.TenantID)
		if whom == "" {
			whom = operators
		}
		if err != nil || woken[whom] || !message.EventType.Audience().People() {
			continue
		}
		woken[whom] = true
		if err := n.cache.Publish(ctx, Channel(n.cache), whom).Err(); err != nil {
			n.log.DebugContext(ctx, "nobody could be woken", "whom", whom, "error", err.Error())
			return
		}
	}
}

// operators stands on the channel for those who operate the platform; no tenant has such an id.
const operators = "operators"

// Channel is the one on which tenants are named that have something new, and the operators.
func Channel(cache *redis.Client) string { return cache.Key("notifications") }
