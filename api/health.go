package api

import (
	"context"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/fault"
)

type health struct {
	Status  string `json:"status" enum:"ok"`
	Version string `json:"version" doc:"The build that answers."`
}

type healthOut struct{ Body health }

type dependency struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty" doc:"Why it cannot be used; absent when it can."`
}

type readiness struct {
	Status       string       `json:"status" enum:"ready,not_ready"`
	Dependencies []dependency `json:"dependencies"`
}

type readinessOut struct {
	Status int
	Body   readiness
}

func (s *server) healthOperations() {
	handle(s, "getHealth", s.getHealth)
	handle(s, "getReadiness", s.getReadiness)
}

func (s *server) getHealth(context.Context, *struct{}) (*healthOut, error) {
	return &healthOut{Body: health{Status: "ok", Version: s.config.Version}}, nil
}

// readinessProbe asks one dependency.
type readinessProbe struct {
	name, trouble string
	// needed says whether the API is of no use without it.
	needed bool
	probe  func() error
}

// probeTimeout bounds the asking of all dependencies together.
const probeTimeout = 2 * time.Second

func (s *server) getReadiness(ctx context.Context, _ *struct{}) (*readinessOut, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	probes := []readinessProbe{
		{"postgres", "The database does not answer.", true, func() error { return s.config.Pool.Ping(ctx) }},
		{"temporal", "The workflow engine does not answer.", true, func() error {
			cluster, err := s.temporal()
			if err == nil {
				_, err = cluster.CheckHealth(ctx, &client.CheckHealthRequest{})
			}
			return err
		}},
		{"oidc", "The keys of the identity provider could not be read.", true, s.config.Verifier.Keys().Ready},
		// Without Redis each replica limits by itself: worse, and better than none.
		{"redis", "Redis does not answer.", false, func() error { return s.config.Redis.Ready(ctx) }},
	}
	if s.config.Letters != nil {
		// Only dead letters need it: events wait in the database.
		probes = append(probes, readinessProbe{"nats", "The event bus does not answer.", false, func() error { return s.config.Letters.Ready(ctx) }})
	}
	answer := readinessOut{Status: http.StatusOK, Body: readiness{Status: "ready"}}
	for _, one := range probes {
		found := dependency{Name: one.name, Ready: true}
		if err := one.probe(); err != nil {
			found.Ready, found.Message = false, one.trouble
			s.config.Log.WarnContext(ctx, "a dependency is not ready", "dependency", one.name, "error", err.Error())
		}
		if !found.Ready && one.needed {
			answer.Status, answer.Body.Status = http.StatusServiceUnavailable, "not_ready"
		}
		answer.Body.Dependencies = append(answer.Body.Dependencies, found)
	}
	return &answer, nil
}

// temporal is the client, or fault.ServiceUnavailable while the cluster was not reached yet.
func (s *server) temporal() (client.Client, error) {
	if cluster := s.config.Temporal(); cluster != nil {
		return cluster, nil
	}
	return nil, fault.New(fault.ServiceUnavailable, "The workflow engine cannot be reached at the moment.")
}
