package process

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// OutboxRelayConfig is what a relay of events needs: the database and NATS.
type OutboxRelayConfig struct {
	Database DatabaseConfig
	NATS     nats.Config
	Relay    outbox.Config
	Health   HealthConfig
	Log      LogConfig
}

// Check says what is wrong with it.
func (c OutboxRelayConfig) Check() []string {
	return append(append(append(c.Database.Check(), c.NATS.Check()...), c.Relay.Check()...), c.Health.Check()...)
}

// RunOutboxRelay publishes the outbox to NATS JetStream until ctx ends. Any number may run; one of them publishes at a time.
func RunOutboxRelay(ctx context.Context, config OutboxRelayConfig) error {
	log := config.Log.logger(outbox.Name)
	shown, err := newInternals(config.Health, outbox.Name, log)
	if err != nil {
		return err
	}
	pool, err := store.Open(ctx, config.Database.URL, store.MaxConnections(config.Database.MaxConnections), store.ApplicationName(outbox.Name))
	if err != nil {
		return err
	}
	defer pool.Close()
	bus, err := nats.Open(config.NATS, outbox.Name, log)
	if err != nil {
		return err
	}
	defer bus.Close()
	relay := outbox.New(pool, bus, config.Relay, instanceName(), log)
	observePool(shown.meter, pool)
	observeRelay(shown.meter, relay, pool, bus)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return relay.Run(ctx) })
	group.Go(func() error { return forgetPublished(ctx, pool, policy.New(pool), log) })
	group.Go(func() error {
		return shown.serve(ctx, []probe{{"postgres", pool.Ping}, {"nats", bus.Ready}}, func() map[string]int64 {
			leads := int64(0)
			if relay.Leads() {
				leads = 1
			}
			return map[string]int64{"leads": leads, "published": relay.Published(), "lag_ms": relay.Lag().Milliseconds()}
		})
	})
	return group.Wait()
}

// instanceName tells one process from every other, and a person which machine it runs on.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + rand.Text()[:8]
}

// forgetPublished removes the days of the outbox that are published and older than policy keeps. Two relays may do so at once.
func forgetPublished(ctx context.Context, pool *pgxpool.Pool, policies *policy.Client, log *slog.Logger) error {
	for {
		pause := upkeepInterval
		dropped, err := dropPublished(ctx, pool, policies)
		switch {
		case err != nil && ctx.Err() == nil:
			log.WarnContext(ctx, "old days of the outbox could not be removed and will be tried again", "error", err.Error())
			pause = upkeepRetry
		case dropped > 0:
			log.InfoContext(ctx, "old days of the outbox are removed", "days", dropped)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func dropPublished(ctx context.Context, pool *pgxpool.Pool, policies *policy.Client) (int, error) {
	hours, err := policies.Int(ctx, authored.EventsOutboxRetentionHours)
	if err != nil {
		return 0, err
	}
	return queries.DropOutboxPartitions(ctx, pool, time.Duration(hours)*time.Hour)
}
