//go:build integration

package nats_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/nats/natstest"
)

func declare(t *testing.T, client *nats.Client) []nats.Drift {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	drifts, err := client.AwaitDeclared(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return drifts
}

func TestStreamsAndConsumersAreMadeOnceByWhoeverStarts(t *testing.T) {
	server := natstest.Start(t)
	first, second := server.Open(), server.Open()
	both := make(chan error, 2)
	for _, client := range []*nats.Client{first, second} {
		go func() {
			_, err := client.AwaitDeclared(t.Context())
			both <- err
		}()
	}
	for range 2 {
		if err := <-both; err != nil {
			t.Fatal(err)
		}
	}
	if drifts := declare(t, first); len(drifts) != 0 {
		t.Errorf("what was just made stands otherwise than declared: %v", drifts)
	}
	for _, name := range event.Streams() {
		stream, err := first.JetStream.Stream(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if subjects := stream.CachedInfo().Config.Subjects; !slices.Equal(subjects, []string{strings.ToLower(name) + ".>"}) {
			t.Errorf("%s takes %v", name, subjects)
		}
	}
	for _, stream := range nats.StreamsOf(nats.Notifications) {
		if _, err := first.JetStream.Consumer(t.Context(), stream, nats.Notifications); err != nil {
			t.Errorf("the consumer of %s: %v", stream, err)
		}
	}
}

func TestDriftIsSaidAndOnlySubjectsAreAdded(t *testing.T) {
	server := natstest.Start(t)
	client := server.Open()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	natstest.AwaitReady(t, client)
	standing := jetstream.StreamConfig{Name: "BILLING", Subjects: []string{"elsewhere.>"}, MaxAge: 2 * time.Hour, Storage: jetstream.MemoryStorage, Duplicates: time.Minute}
	if _, err := client.JetStream.CreateStream(ctx, standing); err != nil {
		t.Fatal(err)
	}
	drifts := declare(t, client)
	var said []string
	for _, drift := range drifts {
		said = append(said, drift.Property)
	}
	slices.Sort(said)
	if want := []string{"duplicate window", "maximum age", "storage", "subjects"}; !slices.Equal(said, want) {
		t.Errorf("said are %v, not %v: %v", said, want, drifts)
	}
	stream, err := client.JetStream.Stream(ctx, "BILLING")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	if !slices.Contains(config.Subjects, "billing.>") {
		t.Errorf("the missing subjects were not added: %v", config.Subjects)
	}
	if config.MaxAge != 2*time.Hour || config.Storage != jetstream.MemoryStorage {
		t.Errorf("the stream was changed silently: %+v", config)
	}
}

func TestNATSMayComeLater(t *testing.T) {
	server := natstest.Start(t)
	server.Kill()
	client := server.Open()
	if err := client.Ready(t.Context()); !errors.Is(err, nats.ErrAway) {
		t.Fatalf("without a server it is ready: %v", err)
	}
	server.Again()
	declare(t, client)
	if err := client.Ready(t.Context()); err != nil {
		t.Errorf("with a server: %v", err)
	}
}
