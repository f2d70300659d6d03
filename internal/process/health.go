package process

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// HealthConfig is where a program without an API of its own says how it is.
type HealthConfig struct {
	Address string `env:"GPUAAS_HEALTH_ADDRESS" usage:"host:port on which /healthz and /readyz are served, for what supervises the program; empty serves none"`
}

// Check says what is wrong with it.
func (c HealthConfig) Check() []string {
	if c.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return []string{"GPUAAS_HEALTH_ADDRESS must look like host:port."}
	}
	return nil
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

// serveHealth serves until ctx ends: /healthz while the program lives, /readyz whether it has what it needs, with its own figures.
func serveHealth(ctx context.Context, config HealthConfig, log *slog.Logger, probes []probe, figures func() map[string]int64) error {
	if config.Address == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", config.Address, err)
	}
	return serve(ctx, listener, healthHandler(log, probes, figures))
}

func healthHandler(log *slog.Logger, probes []probe, figures func() map[string]int64) http.Handler {
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
		found, status := standing{Status: "ready", Figures: figures()}, http.StatusOK
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
	return mux
}
