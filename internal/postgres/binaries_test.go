package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A package manager that is killed leaves packages half installed; one that is asked to end does not.
func TestAPTIsAskedToEnd(t *testing.T) {
	dir := t.TempDir()
	apt, begun, ended := filepath.Join(dir, "apt-get"), filepath.Join(dir, "begun"), filepath.Join(dir, "ended")
	script := "#!/bin/sh\ntrap 'touch " + ended + "; exit 100' INT\ntouch " + begun + "\nwhile :; do sleep 0.05; done\n"
	if err := os.WriteFile(apt, []byte(script), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	result := make(chan error, 1)
	go func() { result <- runAPT(ctx, apt, "install", "postgresql") }()
	await(t, "apt-get runs", func() bool { _, err := os.Stat(begun); return err == nil })
	stop()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the stopped installation ends with %v", err)
	}
	if _, err := os.Stat(ended); err != nil {
		t.Error("apt-get was not asked to end:", err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("in 10 s it did not come to pass that %s", what)
		case <-tick.C:
		}
	}
}
