package process

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/consumer"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// NotificationRelayConfig is what a relay of notifications needs.
type NotificationRelayConfig struct {
	Database DatabaseConfig
	NATS     nats.Config
	Redis    redis.Config
	// Temporal and Worker are for the deliveries of webhooks and mails; where neither are sent nothing of it is asked.
	Temporal temporal.Config
	Worker   WorkerConfig
	Webhooks WebhooksConfig
	Mail     MailConfig
	Health   HealthConfig
	Log      LogConfig
}

// Check says what is wrong with it.
func (c NotificationRelayConfig) Check() []string {
	mistakes := append(append(append(c.Database.Check(), c.NATS.Check()...), c.Redis.Check()...), c.Health.Check()...)
	return append(append(append(mistakes, c.Temporal.Check()...), c.Worker.Check()...), append(c.Webhooks.Check(), c.Mail.Check()...)...)
}

// RunNotificationRelay turns events into notifications, into webhooks of customers and into mails, and delivers those, until ctx ends. Any number
// may run.
func RunNotificationRelay(ctx context.Context, config NotificationRelayConfig) error {
	const program = "notification-relay"
	log := config.Log.logger(program)
	shown, err := newInternals(config.Health, program, log)
	if err != nil {
		return err
	}
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
	starter := webhook.NewStarter(pool, log)
	fanning := webhook.NewConsumer(pool, bus, policies, starter, log)
	postman := email.NewStarter(pool, log)
	addressing := email.NewConsumer(pool, bus, policies, postman, log)
	observePool(shown.meter, pool)
	observeConsumers(shown.meter, bus, map[string]*consumer.Consumer{nats.Notifications: telling, nats.Webhooks: fanning, nats.Emails: addressing})

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return telling.Run(ctx) })
	if config.Webhooks.Enabled() {
		group.Go(func() error { return fanning.Run(ctx) })
	} else {
		log.InfoContext(ctx, "no webhooks are sent: GPUAAS_WEBHOOK_KEYS is empty")
	}
	if config.Mail.SMTP.Enabled() {
		group.Go(func() error { return addressing.Run(ctx) })
	} else {
		log.InfoContext(ctx, "no e-mail is sent: GPUAAS_SMTP_URL is empty")
	}
	if config.Webhooks.Enabled() || config.Mail.SMTP.Enabled() {
		delivering := deliveries{config: config, pool: pool, policies: policies, hooks: starter, mails: postman, shown: shown}
		group.Go(func() error { return delivering.run(ctx) })
	}
	group.Go(func() error { return forgetNotifications(ctx, pool, policies, log) })
	group.Go(func() error {
		// Without Redis people are told a little later: no reason to be taken out of service.
		return shown.serve(ctx, []probe{{"postgres", pool.Ping}, {"nats", bus.Ready}}, func() map[string]int64 {
			applied, dead := telling.Counts()
			fanned, given := fanning.Counts()
			addressed, lost := addressing.Counts()
			return map[string]int64{
				"applied": applied, "dead_letters": dead, "webhook_events": fanned, "webhook_dead_letters": given, "email_events": addressed, "email_dead_letters": lost,
			}
		})
	})
	return group.Wait()
}

// purgeRun is how many rows one statement removes.
const purgeRun = 10_000

// forgetNotifications removes notifications, deliveries of webhooks, mails and inbox keys past their retention. Two relays may do so at once.
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
	deliveryDays, err := policies.Int(ctx, authored.WebhooksDeliveryRetentionDays)
	if err != nil {
		return err
	}
	mailDays, err := policies.Int(ctx, authored.EmailMessageRetentionDays)
	if err != nil {
		return err
	}
	for {
		removed, err := queries.PurgeNotifications(ctx, pool, time.Duration(notificationDays)*day, purgeRun)
		if err != nil {
			return err
		}
		delivered, err := queries.PurgeWebhookDeliveries(ctx, pool, time.Duration(deliveryDays)*day, purgeRun)
		if err != nil {
			return err
		}
		mailed, err := queries.PurgeEmailMessages(ctx, pool, time.Duration(mailDays)*day, purgeRun)
		if err != nil {
			return err
		}
		forgotten, err := queries.PurgeInbox(ctx, pool, time.Duration(inboxDays)*day, purgeRun)
		if err != nil || removed < purgeRun && forgotten < purgeRun && delivered < purgeRun && mailed < purgeRun {
			return err
		}
	}
}
