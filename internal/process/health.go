package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
)

// HealthConfig is where a program says how it is, to those who run it.
type HealthConfig struct {
	Address string `env:"GPUAAS_HEALTH_ADDRESS" usage:"host:port on which /healthz, /readyz and Prometheus's /metrics are served to those who run the platform: a loopback or private address; empty serves none and measures nothing"`
	// Listening, if set, is told the address.
	Listening func(address string) `env:"-"`
}

// Check says what is wrong with it.
func (c HealthConfig) Check() []string {
	if c.Address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return []string{"GPUAAS_HEALTH_ADDRESS must look like host:port."}
	}
	// A name is resolved where it is listened on, and is the operator's own word.
	if address, err := netip.ParseAddr(host); host == "" || err == nil && !address.IsLoopback() && !address.IsPrivate() && !address.IsLinkLocalUnicast() {
		return []string{"GPUAAS_HEALTH_ADDRESS must name a loopback or private address: what is served there is for those who run the platform."}
	}
	return nil
}

// internals is what a program shows of itself to those who run it, on an address that tenants do not reach.
type internals struct {
	config HealthConfig
	log    *slog.Logger
	// meter is nil where nobody can ask for what it measures.
	meter *telemetry.Meter
}

func newInternals(config HealthConfig, program string, log *slog.Logger) (internals, error) {
	shown := internals{config: config, log: log}
	if config.Address == "" {
		return shown, nil
	}
	var err error
	shown.meter, err = telemetry.NewMeter(program, Version, log)
	return shown, err
}

// probeTimeout bounds the asking of all dependencies together.
const probeTimeout = 2 * time.Second

// probe is something that a program cannot do without.
type probe struct {
	name string
	ask  func(context.Context) error
}

// standing is the answer of /readyz.
type standing struct {
	Status       string           `json:"status"`
	Dependencies []probed         `json:"dependencies"`
	Figures      map[string]int64 `json:"figures,omitempty"`
}

type probed struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
}

// serve serves until ctx ends: /healthz while the program lives, /readyz whether it has what it needs, with its own figures, and /metrics.
func (i internals) serve(ctx context.Context, probes []probe, figures func() map[string]int64) error {
	if i.config.Address == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", i.config.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", i.config.Address, err)
	}
	if i.config.Listening != nil {
		i.config.Listening(listener.Addr().String())
	}
	return serve(ctx, listener, healthHandler(i.log, i.meter.Handler(), probes, figures))
}

// beside serves while run does, which may wait for what the program needs.
func (i internals) beside(ctx context.Context, probes []probe, run func(ctx context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.serve(ctx, probes, nil) })
	group.Go(func() error {
		err := run(ctx)
		if err == nil {
			stop()
		}
		return err
	})
	return group.Wait()
}

// reached is the cluster, once it was reached.
type reached struct{ connected atomic.Pointer[client.Client] }

// client is nil while the cluster was not reached.
func (r *reached) client() client.Client {
	if connected := r.connected.Load(); connected != nil {
		return *connected
	}
	return nil
}

// dial waits for the cluster.
func (r *reached) dial(ctx context.Context, config temporal.Config, shown internals) (client.Client, error) {
	config.Metrics = temporal.MetricsHandler(shown.meter, shown.log)
	connected, err := temporal.Dial(ctx, config, shown.log)
	if err == nil {
		r.connected.Store(&connected)
	}
	return connected, err
}

// probe asks whether the cluster answers.
func (r *reached) probe() probe {
	return probe{"temporal", func(ctx context.Context) error {
		cluster := r.client()
		if cluster == nil {
			return errors.New("it was not reached yet")
		}
		_, err := cluster.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	}}
}

func healthHandler(log *slog.Logger, metrics http.Handler, probes []probe, figures func() map[string]int64) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // whoever asked has gone
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok", "version": Version})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
		defer cancel()
		found, status := standing{Status: "ready"}, http.StatusOK
		if figures != nil {
			found.Figures = figures()
		}
		for _, one := range probes {
			err := one.ask(ctx)
			if err != nil {
				log.WarnContext(ctx, "a dependency is not ready", "dependency", one.name, "error", err.Error())
				found.Status, status = "not_ready", http.StatusServiceUnavailable
			}
			found.Dependencies = append(found.Dependencies, probed{one.name, err == nil})
		}
		answer(w, status, found)
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}
