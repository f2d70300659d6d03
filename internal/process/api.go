package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/ledgerchain"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
)

// leastIDSecret is the shortest id secret, in bytes.
const leastIDSecret = 32

// accountCurrency is that of accounts made at a first sign-in: the one the platform's own accounts are kept in.
const accountCurrency = "usd"

// Version is the build that answers; set by the linker.
var Version = "dev"

// APIConfig is what the API program needs.
type APIConfig struct {
	Database DatabaseConfig
	Temporal temporal.Config
	Redis    redis.Config
	// NATS may be left out where a program is assembled in Go: then there are no dead letters to look at.
	NATS     nats.Config
	OIDC     oidc.Config
	SignIn   SignInConfig
	Nodes    NodeAPIConfig
	Health   HealthConfig
	Log      LogConfig
	Trace    TraceConfig
	Webhooks StripeWebhookConfig
	// Customers are the webhooks of customers, which notification-relay sends.
	Customers  WebhooksConfig
	Proxies    []string `env:"GPUAAS_TRUSTED_PROXIES" usage:"networks of our own proxies, whose X-Forwarded-For is believed, comma separated"`
	TemporalUI string   `env:"GPUAAS_TEMPORAL_UI_URL" usage:"where Temporal's own UI listens, such as http://temporal-ui:8080; operators reach it at /operator/temporal; empty serves none"`
	Address    string   `env:"GPUAAS_API_ADDRESS" envDefault:"127.0.0.1:8081" usage:"host:port on which the public API is served"`
	IDSecret   string   `env:"GPUAAS_ID_SECRET,required" usage:"secret that ids derive from, at least 32 bytes, the same on every replica and for ever"`
	// EvidenceKeyFile is read once, at start.
	EvidenceKeyFile string `env:"GPUAAS_EVIDENCE_KEY_FILE" usage:"PEM file with the Ed25519 key that signs evidence, then the older keys that stay published; empty signs none"`
	// Listening, if set, is told the address of the public API; NodesListening that of the node gateway and its root's
	// fingerprint.
	Listening      func(address string)              `env:"-"`
	NodesListening func(address, fingerprint string) `env:"-"`
}

// StripeWebhookConfig is how the webhooks of Stripe are known.
type StripeWebhookConfig struct {
	Secrets []string `env:"STRIPE_WEBHOOK_SECRET" usage:"signing secret of the webhook endpoint, whsec_…; several, comma separated, while one is replaced; empty takes no payments"`
}

// leastWebhookSecret is the shortest one, in bytes: whoever guesses it credits themselves.
const leastWebhookSecret = 16

// Check says what is wrong with it.
func (c StripeWebhookConfig) Check() []string {
	for _, secret := range c.Secrets {
		if len(secret) < leastWebhookSecret {
			return []string{fmt.Sprintf("STRIPE_WEBHOOK_SECRET must be at least %d bytes long.", leastWebhookSecret)}
		}
	}
	return nil
}

// Check says what is wrong with it.
func (c APIConfig) Check() []string {
	mistakes := append(c.Database.Check(), c.Temporal.Check()...)
	mistakes = append(mistakes, c.Redis.Check()...)
	mistakes = append(mistakes, c.NATS.Check()...)
	mistakes = append(append(append(mistakes, c.OIDC.Check()...), c.Nodes.Check()...), c.Trace.Check()...)
	mistakes = append(append(append(append(mistakes, c.SignIn.Check()...), c.Webhooks.Check()...), c.Customers.Check()...), c.Health.Check()...)
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		mistakes = append(mistakes, "GPUAAS_API_ADDRESS must look like host:port.")
	}
	if _, err := middleware.ParseTrustedProxies(c.Proxies); err != nil {
		mistakes = append(mistakes, fmt.Sprintf("GPUAAS_TRUSTED_PROXIES: %v.", err))
	}
	if _, err := c.temporalUI(); err != nil {
		mistakes = append(mistakes, "GPUAAS_TEMPORAL_UI_URL must look like http://temporal-ui:8080, without a path.")
	}
	if len(c.IDSecret) < leastIDSecret {
		mistakes = append(mistakes, "GPUAAS_ID_SECRET must be at least 32 bytes long.")
	}
	return mistakes
}

// temporalUI is the address of Temporal's UI, nil for none.
func (c APIConfig) temporalUI() (*url.URL, error) {
	if c.TemporalUI == "" {
		return nil, nil
	}
	address, err := url.Parse(c.TemporalUI)
	if err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" || strings.Trim(address.Path, "/") != "" || address.RawQuery != "" {
		return nil, fmt.Errorf("%q is no address of a UI", c.TemporalUI)
	}
	return address, nil
}

const (
	headerTimeout = 10 * time.Second
	// requestTimeout covers the longest wait of a request, and its answer on its way.
	requestTimeout = api.LongestAnswer + 10*time.Second
	idleTimeout    = 2 * time.Minute
	// drainTimeout is how long requests may finish after the program was told to stop.
	drainTimeout = 10 * time.Second
	oidcTimeout  = 5 * time.Second
)

// RunAPI serves the public API and, where it is configured, the node gateway, until ctx ends. It listens at once: what
// is not there yet is named by /readyz and waited for.
func RunAPI(ctx context.Context, config APIConfig) error {
	const program = "api"
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
	observePool(shown.meter, pool)
	cache, err := redis.Open(config.Redis, log)
	if err != nil {
		return err
	}
	defer func() { _ = cache.Close() }()
	tracing, err := telemetry.StartTracing(ctx, config.Trace.Endpoint, program, Version, log)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := tracing.Stop(flush); err != nil {
			log.WarnContext(ctx, "the last spans were not exported", "error", err)
		}
	}()
	proxies, err := middleware.ParseTrustedProxies(config.Proxies)
	if err != nil {
		return err
	}
	var keys *evidence.Keys
	if config.EvidenceKeyFile != "" {
		if keys, err = evidence.LoadKeys(config.EvidenceKeyFile); err != nil {
			return err
		}
	}
	ui, err := config.temporalUI()
	if err != nil {
		return err
	}
	webhookKeys, guard, err := config.Customers.open()
	if err != nil {
		return err
	}
	policies := policy.New(pool)
	issuer := &http.Client{Timeout: oidcTimeout}
	verifier := oidc.New(config.OIDC, issuer, time.Now)
	connection := &reached{}
	defer func() {
		if connected := connection.client(); connected != nil {
			connected.Close()
		}
	}()
	settings := api.Config{
		Pool: pool, Redis: cache, Proxies: proxies, Policy: policies, Verifier: verifier, SignIn: config.SignIn.clients(verifier, issuer), IDSecret: []byte(config.IDSecret),
		Currency: accountCurrency, Evidence: keys, WebhookSecrets: config.Webhooks.Secrets, WebhookKeys: webhookKeys, WebhookGuard: guard, Chain: ledgerchain.New(pool, nil, log), TemporalUI: ui, Version: Version, Log: log, Tracing: tracing, Now: time.Now,
		Meter: shown.meter, Temporal: connection.client,
	}
	if config.NATS.URL != "" {
		bus, err := nats.Open(config.NATS, program, log)
		if err != nil {
			return err
		}
		defer bus.Close()
		settings.Letters = bus
	}
	handler, err := api.New(settings)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", config.Address, err)
	}
	if config.Listening != nil {
		config.Listening(listener.Addr().String())
	}
	log.InfoContext(ctx, "serving the API", "address", listener.Addr().String())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, listener, handler) })
	group.Go(func() error { return shown.serve(ctx, []probe{{"postgres", pool.Ping}, connection.probe()}, nil) })
	group.Go(func() error { return verifier.Keys().Run(ctx) })
	group.Go(func() error { return handler.Run(ctx) })
	group.Go(func() error {
		connected, err := connection.dial(ctx, config.Temporal, shown)
		if err != nil {
			return err
		}
		if !config.Nodes.Enabled() {
			return nil
		}
		return RunNodeAPI(ctx, config.Nodes, NodeAPIParts{
			Pool: pool, Temporal: connected, Namespace: config.Temporal.Namespace, Policy: policies, Log: log, Listening: config.NodesListening,
		})
	})
	return group.Wait()
}

// serve answers until ctx ends, and lets what is being answered finish.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		stopped <- server.Shutdown(drain)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}
