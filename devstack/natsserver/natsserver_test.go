package natsserver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	running, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Stop() })
	return running
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	connection, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestWhatAStreamHoldsSurvivesARestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := Config{Directory: t.TempDir(), Password: "secret"}
	first := start(t, cfg)
	js := connect(t, first.URL())
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "kept.one", []byte("words")); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	stream, err := connect(t, start(t, cfg).URL()).Stream(ctx, "KEPT")
	if err != nil {
		t.Fatal(err)
	}
	if message, err := stream.GetMsg(ctx, 1); err != nil || string(message.Data) != "words" {
		t.Fatalf("after a restart the stream holds %v (%v)", message, err)
	}
}

func TestNobodyConnectsWithoutThePassword(t *testing.T) {
	running := start(t, Config{Directory: t.TempDir(), Password: "secret"})
	for _, url := range []string{strings.Replace(running.URL(), "gpuaas:secret@", "", 1), strings.Replace(running.URL(), "secret", "guess", 1)} {
		if connection, err := nats.Connect(url); err == nil {
			connection.Close()
			t.Errorf("%s is let in", url)
		}
	}
	if _, err := Start(Config{Directory: t.TempDir()}); err == nil {
		t.Error("a server without a password starts")
	}
}
