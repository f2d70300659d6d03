package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	benchSKU     id.SKU = "h100-8x"
	audience            = "gpuaas-api"
	connections         = 16 // of each side to the database
	createsEach         = 4  // of one tenant
	listed              = 10 // allocations of the tenant that reads
	readyWithin         = time.Minute
	probeSecrets        = 32
)

// world is the whole platform on a database and a namespace of its own, an issuer, a collector of traces, and the bare side.
type world struct {
	pool        *pgxpool.Pool
	databaseURL string
	cluster     temporal.Config
	redis       redis.Config
	base, bare  string
	issuer      string
	key         jwk.Key
	// reader holds the allocations that are read; creators make one or a few each.
	reader   person
	creators []person
	created  atomic.Int64
	log      *slog.Logger
	ends     []func()
}

type person struct {
	token      string
	tenant     id.Tenant
	project    id.Project
	account    id.Account
	user       id.User
	allocation id.Allocation
}

func (w *world) drop() {
	for i := len(w.ends) - 1; i >= 0; i-- {
		w.ends[i]()
	}
}

func newWorld(ctx context.Context, s settings) (w *world, err error) {
	servers, err := rig.FromEnvironment()
	if err != nil {
		return nil, err
	}
	cache := os.Getenv("GPUAAS_TEST_REDIS_URL")
	if cache == "" {
		return nil, errors.New("GPUAAS_TEST_REDIS_URL must name a Redis: run make bench-api")
	}
	if os.Getenv("GPUAAS_TEST_REDIS_SERVER") == "" {
		fmt.Println("this is the embedded Redis-compatible server, which is slower than Redis")
	}
	w = &world{redis: redis.Config{URL: cache, Prefix: "bench-" + hex.EncodeToString(rig.Entropy(4)) + ":"}, log: telemetry.NewLogger(io.Discard, slog.LevelInfo)}
	defer func() {
		if err != nil {
			w.drop()
		}
	}()
	pool, dropDatabase, err := servers.Database(ctx, connections)
	if err != nil {
		return w, err
	}
	w.ends = append(w.ends, dropDatabase)
	w.pool, w.databaseURL = pool, pool.Config().ConnString()
	if w.cluster, err = servers.Namespace(ctx, "api"); err != nil {
		return w, err
	}
	if err := w.publishKeys(); err != nil {
		return w, err
	}
	creates := s.creates * s.rounds * len(s.connections) * 2
	if err := w.fill(ctx, creates+listed); err != nil {
		return w, err
	}
	if err := w.start(ctx); err != nil {
		return w, err
	}
	if err := w.signInEverybody(ctx, (creates+createsEach-1)/createsEach); err != nil {
		return w, err
	}
	return w, w.serveBare()
}

func (w *world) fill(ctx context.Context, nodes int) error {
	for _, statement := range []string{
		`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('provisioning.runtime_mode', 1, '"noop"', 'platform'),
			('billing.window_seconds', 1, '3600', 'platform'), ('billing.opening_credit_minor', 1, '10000000', 'platform'), ('allocation.max_concurrent_per_user', 1, '100', 'platform'),
			('rate_limit.api_requests_per_minute', 1, '1000000', 'platform')`,
		`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
			VALUES ('h100-8x', 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`,
		`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from)
			VALUES ('price_seedhaaaaaaaaaaaaaaaaaaaaa', 'h100-8x', 'usd', 2392000, '2026-01-01')`,
	} {
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("fill the database: %w", err)
		}
	}
	for i := range nodes {
		nodeID := rig.NewID[id.Node]()
		if _, err := queries.InsertNode(ctx, w.pool, nodeID, benchSKU, fmt.Sprintf("node-%05d", i)); err != nil {
			return err
		}
		if _, err := queries.TransitionNode(ctx, w.pool, nodeID, 1, node.Online, node.Open, ""); err != nil {
			return err
		}
	}
	return nil
}

// publishKeys runs an issuer with one key, and a collector that takes traces and forgets them.
func (w *world) publishKeys() error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if w.key, err = jwk.FromRaw(private); err != nil {
		return err
	}
	public, err := w.key.PublicKey()
	if err != nil {
		return err
	}
	set := jwk.NewSet()
	for _, key := range []jwk.Key{w.key, public} {
		if err := errors.Join(key.Set(jwk.KeyIDKey, "k1"), key.Set(jwk.AlgorithmKey, jwa.RS256)); err != nil {
			return err
		}
	}
	if err := set.AddKey(public); err != nil {
		return err
	}
	pages := http.NewServeMux()
	server := httptest.NewServer(pages)
	w.ends = append(w.ends, server.Close)
	w.issuer = server.URL
	pages.HandleFunc("/.well-known/openid-configuration", func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(map[string]string{"issuer": server.URL, "jwks_uri": server.URL + "/keys"})
	})
	pages.HandleFunc("/keys", func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(set) })
	pages.HandleFunc("/v1/traces", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	return nil
}

// start runs the API and both workers as they run in production, with the log thrown away once it is written.
func (w *world) start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	w.ends = append(w.ends, func() { cancel(); running.Wait() })
	ended := make(chan error, 3)
	run := func(program func() error) { running.Go(func() { ended <- program() }) }
	logs, database := process.LogConfig{Logger: w.log}, process.DatabaseConfig{URL: w.databaseURL, MaxConnections: connections}
	listening := make(chan string, 1)
	run(func() error {
		return process.RunAPI(ctx, process.APIConfig{
			Database: database, Temporal: w.cluster, Redis: w.redis, Log: logs, Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", probeSecrets),
			Trace: process.TraceConfig{Endpoint: w.issuer}, OIDC: oidc.Config{Issuer: w.issuer, Audiences: []string{audience}, Clients: []string{audience}},
			Listening: func(address string) { listening <- address },
		})
	})
	run(func() error {
		return process.RunBillingWorker(ctx, process.BillingWorkerConfig{Database: database, Temporal: w.cluster, Worker: process.DefaultWorkerConfig(), Log: logs})
	})
	run(func() error {
		return process.RunProvisioningWorker(ctx, process.ProvisioningWorkerConfig{Temporal: w.cluster, Worker: process.DefaultWorkerConfig(), Log: logs, ProbeSecret: strings.Repeat("s", probeSecrets)})
	})
	select {
	case address := <-listening:
		w.base = "http://" + address
	case err := <-ended:
		return err
	}
	waiting, stop := context.WithTimeout(ctx, readyWithin)
	defer stop()
	for {
		err := call(waiting, http.DefaultClient, http.StatusOK, w.get(w.base+"/readyz", ""))
		if err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return err
		case <-waiting.Done():
			return fmt.Errorf("the API does not become ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *world) token(subject string) (string, error) {
	token, err := jwt.NewBuilder().Issuer(w.issuer).Subject(subject).Audience([]string{audience}).IssuedAt(time.Now()).
		Expiration(time.Now().Add(time.Hour)).Claim("typ", "Bearer").Claim("azp", audience).Claim("preferred_username", subject).
		Claim("realm_access", map[string]any{"roles": []string{"user"}}).Build()
	if err != nil {
		return "", err
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.RS256, w.key))
	return string(signed), err
}

// signInEverybody makes the people, through the API, and what the reader reads.
func (w *world) signInEverybody(ctx context.Context, creators int) error {
	for i := range creators + 1 {
		subject := fmt.Sprintf("person-%04d", i)
		token, err := w.token(subject)
		if err != nil {
			return err
		}
		if err := call(ctx, http.DefaultClient, http.StatusOK, w.get(w.base+"/api/v1/me", token)); err != nil {
			return err
		}
		one := person{token: token}
		if err := w.pool.QueryRow(ctx, `SELECT u.id, u.tenant_id, p.id, a.id FROM users u JOIN projects p ON p.tenant_id = u.tenant_id JOIN accounts a ON a.tenant_id = u.tenant_id
			WHERE u.subject = $1`, subject).Scan(&one.user, &one.tenant, &one.project, &one.account); err != nil {
			return fmt.Errorf("look for %s: %w", subject, err)
		}
		w.creators = append(w.creators, one)
	}
	w.reader, w.creators = w.creators[0], w.creators[1:]
	return w.fillReader(ctx)
}

// fillReader gives the reader some allocations, and waits until nothing of them is under way any more.
func (w *world) fillReader(ctx context.Context) error {
	for range listed {
		if err := call(ctx, http.DefaultClient, http.StatusCreated, w.create(w.base, w.reader)); err != nil {
			return err
		}
	}
	if err := w.pool.QueryRow(ctx, `SELECT min(id) FROM allocations WHERE tenant_id = $1`, w.reader.tenant).Scan(&w.reader.allocation); err != nil {
		return err
	}
	_, err := w.pool.Exec(ctx, "ANALYZE")
	return err
}

func (w *world) get(address, token string) func(context.Context) (*http.Request, error) {
	return func(ctx context.Context) (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err == nil && token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return request, err
	}
}

func (w *world) create(base string, who person) func(context.Context) (*http.Request, error) {
	return func(ctx context.Context) (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v1/allocations", bytes.NewReader([]byte(`{"sku":"h100-8x","name":"bench"}`)))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+who.token)
		request.Header.Set("X-Idempotency-Key", hex.EncodeToString(rig.Entropy(16)))
		return request, nil
	}
}

// createMany creates so many allocations, a few of each person.
func (w *world) createMany(ctx context.Context, connections, count int, bare bool) (sample, error) {
	caller, base := client(connections), w.base
	defer caller.CloseIdleConnections()
	if bare {
		base = w.bare
	}
	var begun atomic.Int64
	return together(connections, func() (bool, error) {
		if begun.Add(1) > int64(count) {
			return false, nil
		}
		n := w.created.Add(1) - 1
		who := w.creators[int(n)/createsEach]
		return true, call(ctx, caller, http.StatusCreated, w.create(base, who))
	})
}
