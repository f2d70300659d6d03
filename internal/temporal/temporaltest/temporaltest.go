// Package temporaltest gives a test a namespace of its own on a real Temporal server. It needs
// GPUAAS_TEST_TEMPORAL_ADDRESS, which `make test-integration` sets.
package temporaltest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

const (
	patience = time.Minute
	interval = 100 * time.Millisecond
)

// New registers a namespace with these Keyword search attributes and answers how to reach it. The namespace stays
// behind with its retention: the server it lives on is a test's own.
func New(t testing.TB, keywords ...string) temporal.Config {
	t.Helper()
	address := os.Getenv("GPUAAS_TEST_TEMPORAL_ADDRESS")
	if address == "" {
		t.Fatal("GPUAAS_TEST_TEMPORAL_ADDRESS is not set: run `make test-integration`, which starts a real Temporal server")
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails since Go 1.24
	config := temporal.Config{Address: address, Namespace: "test-" + hex.EncodeToString(random)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cluster, err := client.NewLazyClient(client.Options{HostPort: address, Namespace: config.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()

	_, err = cluster.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: config.Namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	attributes := map[string]enumspb.IndexedValueType{}
	for _, keyword := range keywords {
		attributes[keyword] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	Eventually(t, patience, func() error {
		_, err := cluster.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: config.Namespace, SearchAttributes: attributes})
		return err
	})
	// The frontend answers from a cache of namespaces: wait until it knows every attribute.
	for _, keyword := range keywords {
		Eventually(t, patience, func() error {
			_, err := cluster.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
				Namespace: config.Namespace, Query: keyword + " = 'none'",
			})
			return err
		})
	}
	return config
}

// Eventually repeats a check until it passes; when it does not in time, its last error fails the test.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	timeout := time.After(within)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-timeout:
			t.Fatal(fmt.Errorf("not within %s: %w", within, err))
		case <-tick.C:
		}
	}
}
