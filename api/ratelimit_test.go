//go:build integration

package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// newReplicas runs APIs that share a database and a Redis; no workflow engine is needed to count requests.
func newReplicas(t *testing.T, cache redis.Config, n int) (w *world, bases []string) {
	t.Helper()
	w = &world{Database: storetest.New(t, store.MaxConnections(8)), t: t}
	w.publishKeys()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for range n {
		listening := make(chan string, 1)
		running.Go(func() {
			err := process.RunAPI(ctx, process.APIConfig{
				Database: process.DatabaseConfig{URL: w.AppURL, MaxConnections: 8}, Temporal: temporal.Config{Address: "127.0.0.1:1", Namespace: "none"},
				Redis: cache, Proxies: []string{"127.0.0.0/8"}, Log: process.LogConfig{Logger: slog.New(slog.DiscardHandler)},
				Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", 32),
				OIDC:      oidc.Config{Issuer: w.issuer, Audiences: []string{"gpuaas-api"}, Clients: []string{"gpuaas-api"}},
				Listening: func(address string) { listening <- address },
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the API ended: %v", err)
			}
		})
		bases = append(bases, "http://"+<-listening)
	}
	w.base = bases[0]
	return w, bases
}

// setLimit writes a policy value as an administrator's change does.
func (w *world) setLimit(key string, value int) {
	w.t.Helper()
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id)
		SELECT $1, 1 + count(*), to_jsonb($2::int), 'platform' FROM policy_values WHERE key = $1`, "rate_limit."+key, value)
}

// await repeats a check until it passes: a policy value is at most two seconds old.
func (w *world) await(check func() error) {
	w.t.Helper()
	temporaltest.Eventually(w.t, 20*time.Second, check)
}

func TestTheHeadersSayWhatIsLeft(t *testing.T) {
	w, _ := newReplicas(t, redistest.Config(t), 1)
	w.setLimit("api_requests_per_minute", 3)
	alice := w.token("alice")
	for left := 2; left >= 0; left-- {
		got := w.ask("GET", "/api/v1/me", alice, "", "")
		if got.status != 200 || got.header.Get("RateLimit-Policy") != `"api";q=3;w=60` || got.header.Get("Retry-After") != "" {
			t.Fatalf("with %d left it answers %d %v", left, got.status, got.header)
		}
		if limit := got.header.Get("RateLimit"); !strings.HasPrefix(limit, fmt.Sprintf(`"api";r=%d;t=`, left)) {
			t.Errorf("with %d left it says %s", left, limit)
		}
	}
	refused := w.ask("GET", "/api/v1/skus", alice, "", "")
	w.want(refused, 429, "rate_limit_exceeded")
	after, err := strconv.Atoi(refused.header.Get("Retry-After"))
	if err != nil || after < 1 || after > 20 || refused.header.Get("RateLimit") != fmt.Sprintf(`"api";r=0;t=%d`, after) {
		t.Errorf("the refusal says %v", refused.header)
	}
	if refused.header.Get("X-Correlation-Id") != refused.text("correlation_id") {
		t.Error("the refusal is not in the envelope")
	}
	if bob := w.ask("GET", "/api/v1/me", w.token("bob"), "", ""); bob.status != 200 {
		t.Errorf("somebody else gets %d", bob.status)
	}

	// What ends a bill and what shows it is never refused: this allocation does not exist, which is another answer.
	for range 5 {
		if balance := w.ask("GET", "/api/v1/billing/balance", alice, "", ""); balance.status != 200 {
			t.Errorf("with a drained bucket the balance answers %d %s", balance.status, balance.body)
		}
		w.want(w.ask("POST", "/api/v1/allocations/alloc_"+strings.Repeat("a", 26)+"/release", alice, "k", ""), 404, "allocation_not_found")
	}
	root := w.token("root", "admin")
	w.setLimit("admin_overview_requests_per_minute", 1)
	w.await(func() error {
		if got := w.ask("GET", "/api/v1/admin/nodes", root, "", ""); got.status != 429 {
			return fmt.Errorf("it answers %d", got.status)
		}
		return nil
	})
	w.want(w.ask("POST", "/api/v1/admin/allocations/alloc_"+strings.Repeat("a", 26)+"/force-release", root, "k", `{"reason":"gone"}`), 404, "allocation_not_found")
}

// A limit that is raised counts within seconds, also for whoever was just refused.
func TestAChangedPolicyCountsWithinSeconds(t *testing.T) {
	w, _ := newReplicas(t, redistest.Config(t), 1)
	w.setLimit("api_requests_per_minute", 1)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.want(w.ask("GET", "/api/v1/me", alice, "", ""), 429, "rate_limit_exceeded")
	w.setLimit("api_requests_per_minute", 10_000)
	began := time.Now()
	w.await(func() error {
		if got := w.ask("GET", "/api/v1/me", alice, "", ""); got.status != 200 {
			return fmt.Errorf("it answers %d", got.status)
		}
		return nil
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a raised limit counts after %v", took)
	}
}

// Two replicas share a user's budget, however the requests are spread.
func TestReplicasShareABudget(t *testing.T) {
	w, bases := newReplicas(t, redistest.Config(t), 2)
	w.setLimit("api_requests_per_minute", 50)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	began := time.Now()
	var allowed atomic.Int64
	allowed.Add(1)
	var running sync.WaitGroup
	for i := range 10 {
		running.Go(func() {
			for n := range 10 {
				switch status := w.send(bases[(i+n)%2], http.MethodGet, "/api/v1/me", "", map[string]string{"Authorization": "Bearer " + alice}).status; status {
				case http.StatusOK:
					allowed.Add(1)
				case http.StatusTooManyRequests:
				default:
					t.Errorf("it answers %d", status)
				}
			}
		})
	}
	running.Wait()
	back := int64(time.Since(began).Seconds()*50/60) + 1
	if n := allowed.Load(); n < 50 || n > 50+back {
		t.Errorf("%d requests were let through in %v, not 50 and at most %d more", n, time.Since(began), back)
	}
}

// from asks as a client behind our proxy does.
func (w *world) from(client, method, path, token string) reply {
	w.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, w.base+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", client)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = response.Body.Close()
	return reply{status: response.StatusCode, header: response.Header}
}

// Whoever shows bad credentials uses up the budget of an address, not that of a user, and not what must never be refused.
func TestFailedSignInsAreLimitedByAddress(t *testing.T) {
	w, _ := newReplicas(t, redistest.Config(t), 1)
	w.setLimit("unauthenticated_requests_per_minute", 5)
	alice := w.token("alice")
	const bad, good = "198.51.100.7", "198.51.100.8"
	for i := range 5 {
		got := w.from(bad, "GET", "/api/v1/me", "x.y.z")
		if got.status != 401 || got.header.Get("RateLimit-Policy") != `"unauthenticated";q=5;w=60` {
			t.Fatalf("bad credential %d answers %d %v", i, got.status, got.header)
		}
	}
	if got := w.from(bad, "GET", "/api/v1/me", "x.y.z"); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("the sixth answers %d", got.status)
	}
	if got := w.from(bad, "GET", "/api/v1/openapi.yaml", ""); got.status != 429 {
		t.Errorf("the contract is still handed out to it: %d", got.status)
	}
	if got := w.from("203.0.113.9, "+bad, "GET", "/api/v1/me", "x.y.z"); got.status != 429 {
		t.Errorf("a forged hop gets it %d", got.status)
	}
	if got := w.from(good, "GET", "/api/v1/me", "x.y.z"); got.status != 401 {
		t.Errorf("another address gets %d", got.status)
	}
	if got := w.from(good, "GET", "/api/v1/me", alice); got.status != 200 {
		t.Errorf("alice gets %d", got.status)
	}
	if got := w.from(bad, "GET", "/api/v1/billing/balance", alice); got.status != 200 {
		t.Errorf("behind the same address alice's balance answers %d", got.status)
	}
}

// While Redis is away, requests are answered, each replica limits by itself, and what must never be refused is not.
func TestWithoutRedis(t *testing.T) {
	w, _ := newReplicas(t, redistest.Away(), 1)
	w.setLimit("api_requests_per_minute", 8)
	w.setLimit("financial_requests_per_minute", 8)
	alice, root := w.token("alice"), w.token("root", "admin")
	allowed := func(ask func() reply) (n int) {
		for range 12 {
			switch got := ask(); got.status {
			case http.StatusTooManyRequests:
			default:
				n++
			}
		}
		return n
	}
	if n := allowed(func() reply { return w.ask("GET", "/api/v1/me", alice, "", "") }); n != 8 {
		t.Errorf("%d reads were let through, not 8", n)
	}
	if n := allowed(func() reply { return w.ask("POST", "/api/v1/admin/accounts/acct_none/adjustments", root, "k", "{}") }); n != 2 {
		t.Errorf("%d requests about money were let through, not a quarter of 8", n)
	}
	for range 5 {
		if balance := w.ask("GET", "/api/v1/billing/balance", alice, "", ""); balance.status != 200 {
			t.Errorf("the balance answers %d %s", balance.status, balance.body)
		}
	}
}

// What ends a bill works on the worst day, for whoever comes with a token: with Redis away and every budget used up.
func TestWithoutRedisAnAllocationIsReleased(t *testing.T) {
	away := redistest.Away()
	w := newWorldWhere(t, 2, map[string]string{"billing.opening_credit_minor": "100000"}, func(w *world) { w.cache = &away })
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	w.ask("GET", "/api/v1/me", alice, "", "")
	own, forced := w.activeAllocation(alice), w.activeAllocation(alice)
	w.setLimit("api_requests_per_minute", 1)
	for _, token := range []string{alice, root} {
		w.eventually("the budget is used up", http.StatusTooManyRequests, func() reply { return w.ask("GET", "/api/v1/me", token, "", "") })
	}
	if released := w.ask("POST", own+"/release", alice, "r", ""); released.status != http.StatusAccepted {
		t.Errorf("the release answers %d %s", released.status, released.body)
	}
	if released := w.ask("POST", strings.Replace(forced, "/api/v1/", "/api/v1/admin/", 1)+"/force-release", root, "f", `{"reason":"stuck"}`); released.status != http.StatusAccepted {
		t.Errorf("the forced release answers %d %s", released.status, released.body)
	}
	if balance := w.ask("GET", "/api/v1/billing/balance", alice, "", ""); balance.status != http.StatusOK {
		t.Errorf("the balance answers %d %s", balance.status, balance.body)
	}
}
