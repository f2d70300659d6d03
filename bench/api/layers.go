package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/ratelimit"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/store"
)

// layers measures reading an allocation on one connection with one layer more at a time, from the bare handler to the whole
// API. All are served at once and measured in turn.
func (w *world) layers(ctx context.Context, s settings) error {
	stages, stop, err := w.stages(ctx)
	if err != nil {
		return err
	}
	defer stop()
	path := w.reads()[0].path
	times := make([][]sample, len(stages))
	for range s.rounds {
		for i, stage := range stages {
			one, err := load(ctx, 1, s.lasting, w.get(stage.base+path, w.reader.token))
			if err != nil {
				return fmt.Errorf("with %s: %w", stage.name, err)
			}
			times[i] = append(times[i], one)
		}
	}
	fmt.Println("reading an allocation, one connection, layer by layer (mean time of a request):")
	var before time.Duration
	for i, stage := range stages {
		mean := time.Duration(float64(time.Second) / middle(times[i]).rate)
		fmt.Printf("  %-55s %7s  %+8s\n", stage.name, mean.Round(time.Microsecond), (mean - before).Round(time.Microsecond))
		before = mean
	}
	return nil
}

type stage struct{ name, base string }

func (w *world) stages(ctx context.Context) (stages []stage, stop func(), err error) {
	pool, err := store.Open(ctx, w.databaseURL, store.MaxConnections(connections))
	if err != nil {
		return nil, nil, err
	}
	cache, err := redis.Open(w.redis, w.log)
	if err != nil {
		return nil, nil, err
	}
	policies := policy.New(pool)
	verifier := oidc.New(oidc.Config{Issuer: w.issuer, Audiences: []string{audience}, Clients: []string{audience}}, http.DefaultClient, time.Now)
	if err := verifier.Keys().Refresh(ctx); err != nil {
		return nil, nil, err
	}
	authenticator := middleware.NewAuthenticator(middleware.AuthenticatorConfig{
		Pool: pool, Verifier: verifier, Currency: "usd", Log: w.log, Welcome: func(context.Context, identity.Principal, string, string, bool) {},
		ByApproval: func(context.Context) (bool, error) { return false, nil },
		Departed:   func(context.Context, string, string) (bool, error) { return false, nil },
	})
	listening, cancel := context.WithCancel(ctx)
	go func() { _ = authenticator.Run(listening) }()
	limits := &middleware.RateLimits{Limiter: ratelimit.New(cache, w.log), Limit: policies.Int}

	bare := (&bare{pool: pool, reader: w.reader}).routes()
	correlated := middleware.Correlate
	logged := func(next http.Handler) http.Handler { return correlated(middleware.Log(w.log, next)) }
	signedIn := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r, err := authenticator.Admit(r, middleware.SignedIn)
			if err != nil {
				middleware.WriteFault(rw, r, w.log, err)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	limited := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if err := limits.Admit(rw, r, middleware.General); err != nil {
				middleware.WriteFault(rw, r, w.log, err)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	var servers []*httptest.Server
	for _, one := range []struct {
		name    string
		handler http.Handler
	}{
		{"bare: statements and JSON", bare},
		{"correlation", correlated(bare)},
		{"log", logged(bare)},
		{"authentication", logged(signedIn(bare))},
		{"rate limit", logged(signedIn(limited(bare)))},
	} {
		server := httptest.NewServer(one.handler)
		servers = append(servers, server)
		stages = append(stages, stage{one.name, server.URL})
	}
	stages = append(stages, stage{"tracing, authorisation, validation, rendering (all of it)", w.base})
	return stages, func() {
		for _, server := range servers {
			server.Close()
		}
		cancel()
		_ = cache.Close()
		pool.Close()
	}, nil
}
