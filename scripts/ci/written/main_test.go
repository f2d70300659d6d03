package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gpuaas/gpuaas/domain/event"
)

func TestAKindThatNoTestWroteIsMissing(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, string(event.BillingUsageRecorded)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := missing(directory, []event.Type{event.BillingUsageRecorded, event.PaymentsBalanceCredited})
	if err != nil || !slices.Equal(got, []event.Type{event.PaymentsBalanceCredited}) {
		t.Errorf("missing are %v: %v", got, err)
	}
}
