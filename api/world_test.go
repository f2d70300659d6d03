//go:build integration

package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/nats/natstest"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/stripe/stripetest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/contracttest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const sku id.SKU = "h100-8x"

// world is the API program and both workers on a database and a namespace of their own, an issuer, and nodes that the
// noop runtime answers for.
type world struct {
	*storetest.Database
	t    *testing.T
	base string
	// cluster is the namespace that the workers work in.
	cluster temporal.Config
	issuer  string
	key     jwk.Key
	// stripe is the platform's account at the stand-in, whose events pass through hooks and are signed with signing.
	stripe  *stripetest.Account
	hooks   *hooks
	signing string
	// replica runs the API program once more and answers its address.
	replica func(log *slog.Logger) string
	// bus is NATS, with both relays; nil where the test infrastructure has none.
	bus *nats.Client
	// addresses are what the issuer's tokens say of people; nothing of those who are not here.
	addresses map[string]address
	// smtp is where mail is handed to; without it none is sent.
	smtp email.Config
	// cache is the Redis to use, nil for the test's own.
	cache *redis.Config
}

// address is somebody's e-mail address, as the issuer knows it.
type address struct {
	email    string
	verified bool
}

// needBus ends a test that cannot do without NATS.
func (w *world) needBus() {
	w.t.Helper()
	if w.bus == nil {
		w.t.Fatal("this test needs NATS: run `make test-integration`, or `bin/devstack run` with the part nats")
	}
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	return newWorldWhere(t, nodes, map[string]string{"billing.opening_credit_minor": "100000"})
}

// newWorldWhere begins with policy values of its own.
func newWorldWhere(t *testing.T, nodes int, values map[string]string, adjust ...func(*world)) *world {
	t.Helper()
	w := &world{Database: storetest.New(t, store.MaxConnections(16)), t: t}
	for _, adjusting := range adjust {
		adjusting(w)
	}
	w.publishKeys()
	cluster := temporaltest.New(t, workflows.SearchAttributes()...)
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES
		('provisioning.runtime_mode', 1, '"noop"', 'platform'),
		('rate_limit.api_requests_per_minute', 1, '100000', 'platform'), ('rate_limit.financial_requests_per_minute', 1, '100000', 'platform'),
		('rate_limit.admin_overview_requests_per_minute', 1, '100000', 'platform'), ('rate_limit.unauthenticated_requests_per_minute', 1, '100000', 'platform')`)
	w.exec(`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ('h100-8x', 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here'), ('a100-8x', 'a100', 'NVIDIA A100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`)
	w.exec(`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES
		($1, 'h100-8x', 'usd', 3600000, '2026-01-01'), ($2, 'a100-8x', 'usd', 9000000000000, '2026-01-01')`,
		string(randomID[id.Price]()), string(randomID[id.Price]()))
	for i := range nodes {
		nodeID := randomID[id.Node]()
		if _, err := queries.InsertNode(t.Context(), w.App, nodeID, sku, fmt.Sprintf("node-%03d", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := queries.TransitionNode(t.Context(), w.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range values {
		w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ($1, 1, $2::jsonb, 'platform')`, key, value)
	}
	w.start(cluster)
	return w
}

// start runs the three programs until the test ends.
func (w *world) start(cluster temporal.Config) {
	w.t.Helper()
	w.cluster = cluster
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(name string, program func() error) {
		running.Go(func() {
			if err := program(); err != nil && !errors.Is(err, context.Canceled) {
				w.t.Errorf("the %s ended: %v", name, err)
			}
		})
	}
	logs := process.LogConfig{Logger: slog.New(slog.DiscardHandler)}
	database := process.DatabaseConfig{URL: w.AppURL, MaxConnections: 16}
	run("billing worker", func() error {
		return process.RunBillingWorker(ctx, process.BillingWorkerConfig{Database: database, Temporal: cluster, Worker: process.DefaultWorkerConfig(), Log: logs})
	})
	run("provisioning worker", func() error {
		return process.RunProvisioningWorker(ctx, process.ProvisioningWorkerConfig{Temporal: cluster, Worker: process.DefaultWorkerConfig(), Log: logs, ProbeSecret: strings.Repeat("s", 32)})
	})
	w.stripe, w.hooks = stripetest.New(w.t), newHooks(w)
	w.signing = w.stripe.Listen(w.hooks.server.URL + webhookPath)
	run("webhook worker", func() error {
		return process.RunWebhookWorker(ctx, process.WebhookWorkerConfig{Database: database, Temporal: cluster, Worker: process.DefaultWorkerConfig(), Log: logs, Stripe: w.stripe.Config()})
	})
	cache, evidenceKey := redistest.Config(w.t), w.evidenceKey()
	if w.cache != nil {
		cache = *w.cache
	}
	var bus nats.Config
	// Receivers of webhooks listen on this machine.
	customers := process.WebhooksConfig{Keys: "test:" + strings.Repeat("07", 32), Networks: []string{"127.0.0.0/8"}}
	if natstest.Available() {
		server := natstest.Start(w.t)
		bus, w.bus = server.Config(), server.Open()
		run("outbox relay", func() error {
			return process.RunOutboxRelay(ctx, process.OutboxRelayConfig{Database: database, NATS: bus, Relay: outbox.DefaultConfig(), Log: logs})
		})
		run("notification relay", func() error {
			return process.RunNotificationRelay(ctx, process.NotificationRelayConfig{
				Database: database, NATS: bus, Redis: cache, Log: logs, Temporal: cluster, Worker: process.DefaultWorkerConfig(), Webhooks: customers,
				Mail: process.MailConfig{SMTP: w.smtp, PublicURL: "https://console.example"},
			})
		})
	}
	w.replica = func(log *slog.Logger) string {
		listening := make(chan string, 1)
		run("API", func() error {
			return process.RunAPI(ctx, process.APIConfig{
				Database: database, Temporal: cluster, Redis: cache, NATS: bus, Log: process.LogConfig{Logger: log}, Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", 32),
				EvidenceKeyFile: evidenceKey, Webhooks: process.StripeWebhookConfig{Secrets: []string{olderSecret, w.signing}},
				Customers: customers,
				OIDC:      oidc.Config{Issuer: w.issuer, Audiences: []string{"gpuaas-api"}, Clients: []string{"gpuaas-api"}},
				Listening: func(address string) { listening <- address },
			})
		})
		return "http://" + <-listening
	}
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w.base = w.replica(slog.New(slog.DiscardHandler))
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if ready := w.ask("GET", "/readyz", "", "", ""); ready.status != 200 {
			return fmt.Errorf("not ready: %s", ready.body)
		}
		return nil
	})
}

// evidenceKey makes the key that signs evidence, in a file.
func (w *world) evidenceKey() string {
	w.t.Helper()
	key, err := evidence.Generate()
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "evidence.pem")
	if err := os.WriteFile(path, key, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// publishKeys runs an issuer with one key.
func (w *world) publishKeys() {
	w.t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.key, err = jwk.FromRaw(private); err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(w.key.Set(jwk.KeyIDKey, "k1"), w.key.Set(jwk.AlgorithmKey, jwa.RS256)); err != nil {
		w.t.Fatal(err)
	}
	public, err := w.key.PublicKey()
	if err != nil {
		w.t.Fatal(err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		w.t.Fatal(err)
	}
	pages := http.NewServeMux()
	server := httptest.NewServer(pages)
	w.t.Cleanup(server.Close)
	w.issuer = server.URL + "/realms/gpuaas"
	answer := func(path string, value any) {
		pages.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(value) })
	}
	answer("/realms/gpuaas/.well-known/openid-configuration", map[string]string{"issuer": w.issuer, "jwks_uri": server.URL + "/keys"})
	answer("/keys", set)
}

// token signs somebody in.
func (w *world) token(subject string, roles ...string) string {
	w.t.Helper()
	return w.tokenOf(subject, "", roles...)
}

// tokenOf signs in somebody whom the issuer counts among an organisation.
func (w *world) tokenOf(subject, organisation string, roles ...string) string {
	w.t.Helper()
	return w.sign(subject, organisation, "gpuaas-api", time.Now().Add(time.Hour), roles...)
}

// tokenUntil is a token for an audience, good until an instant.
func (w *world) tokenUntil(subject, audience string, until time.Time) string {
	w.t.Helper()
	return w.sign(subject, "", audience, until)
}

func (w *world) sign(subject, organisation, audience string, until time.Time, roles ...string) string {
	w.t.Helper()
	builder := jwt.NewBuilder()
	if organisation != "" {
		builder = builder.Claim("org_id", organisation)
	}
	if known, there := w.addresses[subject]; there {
		builder = builder.Claim("email", known.email).Claim("email_verified", known.verified)
	}
	token, err := builder.Issuer(w.issuer).Subject(subject).Audience([]string{audience}).IssuedAt(until.Add(-2*time.Hour)).
		Expiration(until).Claim("typ", "Bearer").Claim("azp", "gpuaas-api").Claim("preferred_username", subject).
		Claim("realm_access", map[string]any{"roles": append([]string{"user"}, roles...)}).Build()
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.RS256, w.key))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(signed)
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// fields is the body's JSON object.
func (r reply) fields() map[string]any {
	var fields map[string]any
	_ = json.Unmarshal(r.body, &fields)
	return fields
}

func (r reply) text(field string) string {
	value, _ := r.fields()[field].(string)
	return value
}

func (w *world) ask(method, path, token, key, body string) reply {
	w.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, w.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		request.Header.Set("X-Idempotency-Key", key)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := contracttest.Client(w.t).Do(request) // which holds every exchange against the contract
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, text}
}

func (w *world) want(got reply, status int, code string) {
	w.t.Helper()
	if got.status != status || got.text("code") != code {
		w.t.Errorf("answered %d %s, not %d %q", got.status, got.body, status, code)
	}
}

func (w *world) exec(sql string, arguments ...any) {
	w.t.Helper()
	if _, err := w.Owner.Exec(context.Background(), sql, arguments...); err != nil {
		w.t.Fatal(err)
	}
}

// rows counts what a refused request must not have added to.
func (w *world) rows() map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for _, table := range []string{"allocations", "allocation_transitions", "node_leases", "ledger_entries", "payments", "refunds", "stripe_events", "outbox", "audit_logs", "policy_values",
		"skus", "sku_prices", "node_enrol_tokens", "idempotency_records", "users", "tenants"} {
		var n int
		source := table
		if table == "audit_logs" {
			source += " WHERE result = 'success'" // that something was refused is written down
		}
		if err := w.Owner.QueryRow(context.Background(), "SELECT count(*) FROM "+source).Scan(&n); err != nil {
			w.t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}

func randomID[K id.Kind]() K {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	return id.New[K](entropy)
}
