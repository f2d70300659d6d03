package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	socketPath = "/ws/notifications"
	nobody     = "127.0.0.1:1" // of what delivery does not need
	// deliveryPause lies between two events, so that each finds everybody waiting.
	deliveryPause = 20 * time.Millisecond
)

// delivering measures from the commit of an event to its arrival at a WebSocket of the API, through both relays.
func (b *bench) delivering(ctx context.Context) error {
	cacheURL := os.Getenv("GPUAAS_TEST_REDIS_URL")
	if cacheURL == "" {
		return errors.New("GPUAAS_TEST_REDIS_URL must name a Redis: run make bench-outbox")
	}
	cache := redis.Config{URL: cacheURL, Prefix: "bench-" + hex.EncodeToString(rig.Entropy(4)) + ":"}
	tenant, token, err := b.reader(ctx)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var programs sync.WaitGroup
	defer programs.Wait()
	defer stop()
	quiet := process.LogConfig{Logger: slog.New(slog.DiscardHandler)}
	database := process.DatabaseConfig{URL: b.pool.Config().ConnString(), MaxConnections: 16}
	_, stopRelay := b.startRelay(ctx)
	defer stopRelay()
	programs.Go(func() {
		_ = process.RunNotificationRelay(running, process.NotificationRelayConfig{Database: database, NATS: b.natsConfig, Redis: cache, Log: quiet})
	})
	listening := make(chan string, 1)
	programs.Go(func() {
		_ = process.RunAPI(running, process.APIConfig{
			Database: database, Redis: cache, Log: quiet, Address: "127.0.0.1:0", IDSecret: strings.Repeat("b", 32), Temporal: temporal.Config{Address: nobody, Namespace: "bench"},
			OIDC: oidc.Config{Issuer: "http://" + nobody, Audiences: []string{"bench"}}, Listening: func(address string) { listening <- address },
		})
	})
	socket, _, err := websocket.Dial(ctx, "ws://"+<-listening+socketPath, &websocket.DialOptions{HTTPHeader: map[string][]string{"Authorization": {"Bearer " + token}}})
	if err != nil {
		return fmt.Errorf("the socket does not open: %w", err)
	}
	defer func() { _ = socket.CloseNow() }()
	var took []float64
	for number := range b.deliveries {
		elapsed, err := b.deliver(ctx, socket, tenant, number)
		if err != nil {
			return err
		}
		took = append(took, elapsed)
	}
	slices.Sort(took)
	fmt.Printf("commit to WebSocket, %d events: p50 %.1f ms, p99 %.1f ms\n", len(took), took[len(took)/2], took[len(took)*99/100])
	return nil
}

// deliver writes an event and waits until it arrives; it answers how many milliseconds after the commit that was.
func (b *bench) deliver(ctx context.Context, socket *websocket.Conn, tenant id.Tenant, number int) (float64, error) {
	told := queries.Event{
		Type: event.BillingBalanceAdjusted, Fact: fmt.Sprintf("bench/delivery/%d/%x", number, rig.Entropy(8)), AggregateID: "adjustment", OccurredAt: time.Now(), CorrelationID: "bench",
		Payload: map[string]any{"adjustment_id": "bench", "tenant_id": tenant, "account_id": "acct", "currency": "usd", "amount_micros": 1, "kind": "adjustment_credit", "entry_ids": []int{1}},
	}
	row, err := told.Row()
	if err != nil {
		return 0, err
	}
	if err := store.InTx(ctx, b.pool, func(ctx context.Context, tx pgx.Tx) error { return queries.InsertOutbox(ctx, tx, told) }); err != nil {
		return 0, err
	}
	committed := time.Now()
	waiting, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	for {
		_, body, err := socket.Read(waiting)
		if err != nil {
			return 0, fmt.Errorf("event %d does not arrive: %w", number, err)
		}
		var message struct {
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal(body, &message); err != nil {
			return 0, err
		}
		if message.EventID == row.MsgID {
			took := time.Since(committed)
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(deliveryPause):
			}
			return float64(took.Microseconds()) / 1000, nil
		}
	}
}

// reader makes the owner of a tenant, with a token of their own.
func (b *bench) reader(ctx context.Context) (id.Tenant, string, error) {
	token := secret.PersonalTokenPrefix + hex.EncodeToString(rig.Entropy(32))
	var tenant id.Tenant
	err := store.InTx(ctx, b.pool, func(ctx context.Context, tx pgx.Tx) error {
		found, err := queries.EnsureIdentity(ctx, tx, queries.SignIn{
			Issuer: "bench", Subject: "reader", Username: "reader", Currency: "usd",
			TenantID: rig.NewID[id.Tenant](), UserID: rig.NewID[id.User](), ProjectID: rig.NewID[id.Project](), AccountID: rig.NewID[id.Account](),
		})
		if err != nil {
			return err
		}
		tenant = found.User.TenantID
		hash, until := queries.HashCredential(token), time.Now().Add(time.Hour)
		_, err = queries.InsertCredential(ctx, tx, queries.Credential{
			ID: rig.NewID[id.Credential](), Kind: queries.CredentialPersonal, UserID: found.User.ID, SHA256: hash[:], Name: "bench",
			Scopes: []identity.Permission{identity.ProfileRead, identity.BillingRead}, CreatedBy: string(found.User.ID), ExpiresAt: &until,
		})
		return err
	})
	return tenant, token, err
}
