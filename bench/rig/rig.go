// Package rig is what the benchmarks stand on: a migrated database and namespaces of their own on the servers they
// are given, random ids, and medians. It imports internal/store, internal/temporal and workflows.
package rig

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

// Servers are the two that a benchmark is given. TemporalAddress may be empty where Temporal is not measured.
type Servers struct{ DatabaseURL, TemporalAddress string }

// FromEnvironment reads the servers from where `devstack run` and the integration tests have them.
func FromEnvironment() (Servers, error) {
	servers := Servers{DatabaseURL: os.Getenv("GPUAAS_TEST_DATABASE_URL"), TemporalAddress: os.Getenv("GPUAAS_TEST_TEMPORAL_ADDRESS")}
	if servers.DatabaseURL == "" || servers.TemporalAddress == "" {
		return servers, errors.New("GPUAAS_TEST_DATABASE_URL and GPUAAS_TEST_TEMPORAL_ADDRESS must name a server each: run a make target beginning with bench-")
	}
	return servers, nil
}

// Database makes and migrates a database and answers a pool on it with the function that removes it.
func (s Servers) Database(ctx context.Context, connections int32) (*pgxpool.Pool, func(), error) {
	name := "bench_" + hex.EncodeToString(Entropy(4))
	own, err := url.Parse(s.DatabaseURL)
	if err != nil {
		return nil, nil, fmt.Errorf("the database URL: %w", err)
	}
	if err := execute(ctx, s.DatabaseURL, "CREATE DATABASE "+name); err != nil {
		return nil, nil, err
	}
	own.Path = "/" + name
	if _, err := store.Migrate(ctx, own.String()); err != nil {
		return nil, nil, err
	}
	pool, err := store.Open(ctx, own.String(), store.MaxConnections(connections))
	if err != nil {
		return nil, nil, err
	}
	return pool, func() {
		pool.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := execute(ctx, s.DatabaseURL, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "the database of the benchmark stays behind:", err)
		}
	}, nil
}

// Namespace makes a namespace of its own.
func (s Servers) Namespace(ctx context.Context, purpose string) (temporal.Config, error) {
	config := temporal.Config{Address: s.TemporalAddress, Namespace: "bench-" + purpose + "-" + hex.EncodeToString(Entropy(4))}
	return config, temporal.RegisterNamespace(ctx, config, 24*time.Hour, workflows.SearchAttributes())
}

func execute(ctx context.Context, databaseURL, statement string) error {
	connection, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect to the database server: %w", err)
	}
	defer func() { _ = connection.Close(context.WithoutCancel(ctx)) }()
	if _, err := connection.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Entropy is n random bytes.
func Entropy(n int) []byte {
	random := make([]byte, n)
	_, _ = rand.Read(random) // never fails since Go 1.24
	return random
}

// NewID is a random id.
func NewID[K id.Kind]() K { return id.New[K]([16]byte(Entropy(16))) }

// Median of at least one value.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[n/2]
}

// AtLeast prints a ratio beside its aim, which it reaches from above; the last line is the one that programs read.
func AtLeast(name string, value, aim float64) { printRatio(name, value, "≥", aim, value >= aim) }

// AtMost prints a ratio beside its aim, which it reaches from below.
func AtMost(name string, value, aim float64) { printRatio(name, value, "≤", aim, value <= aim) }

func printRatio(name string, value float64, relation string, aim float64, met bool) {
	verdict := "missed"
	if met {
		verdict = "met"
	}
	fmt.Printf("aim: %s %s %.2f, %s\nratio %s %.3f\n", name, relation, aim, verdict, name, value)
}
