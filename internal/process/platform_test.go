//go:build integration

package process_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// platform is the API and both workers on a database, a namespace and an issuer of their own, with nodes that the noop
// runtime answers for.
type platform struct {
	*storetest.Database
	cluster client.Client
	config  temporal.Config
	cache   redis.Config
	issuer  *tokenIssuer
	url     string
	// live is the context of the programs, which running counts.
	live    context.Context
	running sync.WaitGroup
	// troubles is what the programs logged as an error or a warning; a test that fails shows it.
	troubles troubles
	// internal is where each program says how it is, by its name; the newest of several.
	internal sync.Map
}

// health has a program tell of itself on an address of its own.
func (p *platform) health(program string) process.HealthConfig {
	return process.HealthConfig{Address: "127.0.0.1:0", Listening: func(address string) { p.internal.Store(program, address) }}
}

// troubles keeps what many goroutines log.
type troubles struct {
	mutex   sync.Mutex
	written bytes.Buffer
}

func (l *troubles) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.written.Write(line)
}

// show tells the last of them to the log of a test.
func (l *troubles) show(t *testing.T) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	const most = 16 << 10
	text := l.written.String()
	t.Log("the last that the programs logged:\n" + text[max(0, len(text)-most):])
}

func newPlatform(t *testing.T, nodes int) *platform {
	t.Helper()
	p := &platform{
		Database: storetest.New(t, store.MaxConnections(24)), config: temporaltest.New(t, workflows.SearchAttributes()...),
		cache: redistest.Config(t), issuer: newTokenIssuer(t),
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.live = ctx
	log := telemetry.NewLogger(&p.troubles, slog.LevelWarn)
	var err error
	if p.cluster, err = temporal.Dial(ctx, p.config, log); err != nil {
		t.Fatal(err)
	}
	logs, workers := process.LogConfig{Logger: log}, process.DefaultWorkerConfig()
	p.running.Go(func() {
		config := process.BillingWorkerConfig{Temporal: p.config, Worker: workers, Log: logs, Health: p.health("billing-worker"),
			Database: process.DatabaseConfig{URL: p.AppURL, MaxConnections: 24}}
		if err := process.RunBillingWorker(ctx, config); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the billing worker ended: %v", err)
		}
	})
	p.running.Go(func() {
		config := process.ProvisioningWorkerConfig{Temporal: p.config, Worker: workers, Log: logs, Health: p.health("provisioning-worker"), ProbeSecret: strings.Repeat("s", 32)}
		if err := process.RunProvisioningWorker(ctx, config); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the provisioning worker ended: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		p.running.Wait()
		p.cluster.Close()
		if t.Failed() {
			p.troubles.show(t)
		}
	})
	p.url = p.replica(t, process.NodeAPIConfig{}).url
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('provisioning.runtime_mode', 1, '"noop"', 'platform'),
		('rate_limit.api_requests_per_minute', 1, '1000000', 'platform'), ('rate_limit.financial_requests_per_minute', 1, '100000', 'platform'),
		('rate_limit.admin_overview_requests_per_minute', 1, '1000000', 'platform'),
		('rate_limit.unauthenticated_requests_per_minute', 1, '1000000', 'platform')`)
	p.exec(t, `INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ($1, 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`, string(crowdSKU))
	p.exec(t, `INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES ($1, $2, 'usd', 3600000, '2026-01-01')`,
		string(randomID[id.Price]()), string(crowdSKU))
	for i := range nodes {
		nodeID := randomID[id.Node]()
		if _, err := queries.InsertNode(ctx, p.App, nodeID, crowdSKU, fmt.Sprintf("node-%03d", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := queries.TransitionNode(ctx, p.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// replica is one running API program. Its gateway is empty where it serves no nodes.
type replica struct{ url, gateway string }

// replica starts an API program and answers once it is ready.
func (p *platform) replica(t *testing.T, nodes process.NodeAPIConfig) replica {
	t.Helper()
	listening, gateway := make(chan string, 1), make(chan string, 1)
	p.running.Go(func() {
		config := process.APIConfig{Temporal: p.config, Redis: p.cache, Nodes: nodes, Health: p.health("api"), Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", 32),
			Log: process.LogConfig{Logger: telemetry.NewLogger(&p.troubles, slog.LevelWarn)}, Database: process.DatabaseConfig{URL: p.AppURL, MaxConnections: 24},
			OIDC:           oidc.Config{Issuer: p.issuer.server.URL, Audiences: []string{"gpuaas-api"}, Clients: []string{"gpuaas-api"}},
			Listening:      func(address string) { listening <- address },
			NodesListening: func(address, _ string) { gateway <- address }}
		if err := process.RunAPI(p.live, config); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the API ended: %v", err)
		}
	})
	started := replica{url: "http://" + <-listening}
	temporaltest.Eventually(t, time.Minute, started.ready)
	if nodes.Enabled() {
		started.gateway = <-gateway
	}
	return started
}

// ready asks the API whether everything it needs is there.
func (r replica) ready() error {
	response, err := http.Get(r.url + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API answers %s", response.Status)
	}
	return nil
}

func (p *platform) exec(t *testing.T, sql string, arguments ...any) {
	t.Helper()
	if _, err := p.Owner.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatal(err)
	}
}

func (p *platform) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	if err := p.Owner.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// person is somebody with a token and money.
type person struct{ token string }

func (p *platform) signIn(t *testing.T, subject string) person {
	t.Helper()
	var signed queries.Identity
	err := store.InTx(t.Context(), p.App, func(ctx context.Context, tx pgx.Tx) (err error) {
		signed, err = queries.EnsureIdentity(ctx, tx, queries.SignIn{
			Issuer: p.issuer.server.URL, Subject: subject, Username: subject, Currency: "usd",
			TenantID: randomID[id.Tenant](), UserID: randomID[id.User](), ProjectID: randomID[id.Project](), AccountID: randomID[id.Account](),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.exec(t, `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		VALUES ('opening_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 1000000000, 'test:' || $1::text)`, string(signed.Tenants[0].AccountID))
	return person{token: p.issuer.token(t, subject)}
}

// answer is what the API said to a create.
type answer struct {
	status   int
	replayed bool
	body     struct {
		ID      id.Allocation `json:"id"`
		NodeID  id.Node       `json:"node_id"`
		Code    fault.Code    `json:"code"`
		Message string        `json:"message"`
	}
}

// ask creates an allocation over HTTP.
func (p *platform) ask(ctx context.Context, who person, key string) (answer, error) {
	return replica{url: p.url}.post(ctx, who, "/api/v1/allocations", key, `{"sku":"`+string(crowdSKU)+`","name":"train"}`)
}

// post asks one replica for a change.
func (r replica) post(ctx context.Context, who person, path, key, body string) (answer, error) {
	var got answer
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		return got, err
	}
	request.Header.Set("Authorization", "Bearer "+who.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return got, err
	}
	defer func() { _ = response.Body.Close() }()
	got.status, got.replayed = response.StatusCode, response.Header.Get("Idempotency-Replayed") == "true"
	return got, json.NewDecoder(response.Body).Decode(&got.body)
}

func randomID[K id.Kind]() K {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	return id.New[K](entropy)
}
