package process

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// NotificationRelayConfig is what a relay of notifications needs.
type NotificationRelayConfig struct {
	Database DatabaseConfig
	NATS     nats.Config
	Redis    redis.Config
	Health   HealthConfig
	Log      LogConfig
}

// Check says what is wrong with it.
func (c NotificationRelayConfig) Check() []string {
	return append(append(append(c.Database.Check(), c.NATS.Check()...), c.Redis.Check()...), c.Health.Check()...)
}

// RunNotificationRelay turns events into notifications until ctx ends. Any number may run.
func RunNotificationRelay(ctx context.Context, config NotificationRelayConfig) error {
	const program = "notification-relay"
	log := config.Log.logger(program)
	pool, err := store.Open(ctx, config.Database.URL, store.MaxConnections(config.Database.MaxConnections), store.ApplicationName(program))
	if err != nil {
		return err
	}
	defer pool.Close()
	bus, err := nats.Open(config.NATS, program, log)
	if err != nil {
		return err
	}
	defer bus.Close()
	cache, err := redis.Open(config.Redis, log)
	if err != nil {
		return err
	}
	defer func() { _ = cache.Close() }()
	policies := policy.New(pool)
	telling := notify.NewConsumer(pool, bus, cache, policies, log)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return telling.Run(ctx) })
	group.Go(func() error { return forgetNotifications(ctx, pool, policies, log) })
	group.Go(func() error {
		// Without Redis people are told a little later: no reason to be taken out of service.
		return serveHealth(ctx, config.Health, log, []probe{{"postgres", pool.Ping}, {"nats", bus.Ready}}, func() map[string]int64 {
			applied, dead := telling.Counts()
			return map[string]int64{"applied": applied, "dead_letters": dead}
		})
	})
	return group.Wait()
}

// purgeRun is how many rows one statement removes.
const purgeRun = 10_000

// forgetNotifications removes notifications and inbox keys past their retention. Two relays may do so at once.
func forgetNotifications(ctx context.Context, pool *pgxpool.Pool, policies *policy.Client, log *slog.Logger) error {
	for {
		pause := upkeepInterval
		if err := purgeNotifications(ctx, pool, policies); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "old notifications could not be removed and will be tried again", "error", err.Error())
			pause = upkeepRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func purgeNotifications(ctx context.Context, pool *pgxpool.Pool, policies *policy.Client) error {
	const day = 24 * time.Hour
	notificationDays, err := policies.Int(ctx, authored.NotificationRetentionDays)
	if err != nil {
		return err
	}
	inboxDays, err := policies.Int(ctx, authored.EventsInboxRetentionDays)
	if err != nil {
		return err
	}
	for {
		removed, err := queries.PurgeNotifications(ctx, pool, time.Duration(notificationDays)*day, purgeRun)
		if err != nil {
			return err
		}
		forgotten, err := queries.PurgeInbox(ctx, pool, time.Duration(inboxDays)*day, purgeRun)
		if err != nil || removed < purgeRun && forgotten < purgeRun {
			return err
		}
	}
}
