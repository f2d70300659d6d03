package activities

import (
	"context"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/workflows"
)

// The clock is taken out of it: the last statement started in the future, so its pace never ends while the test runs.
func TestPostingsGatherUntilAStatementIsFull(t *testing.T) {
	statements := make(chan int, 4)
	group := newGroupCommit(func(_ context.Context, postings []*posting) {
		statements <- len(postings)
		for _, p := range postings {
			p.done <- nil
		}
	})
	if err := group.post(t.Context(), gathering(1)); err != nil {
		t.Fatal(err)
	}
	if got := <-statements; got != 1 {
		t.Fatalf("the first posting went out with %d", got)
	}
	group.mutex.Lock()
	group.started = time.Now().Add(time.Hour)
	group.mutex.Unlock()

	small := []*posting{gathering(1), gathering(1), gathering(1)}
	for _, p := range small {
		if err := group.accept(p); err != nil {
			t.Fatal(err)
		}
	}
	if len(statements) != 0 {
		t.Fatal("a posting went out before its time")
	}
	if err := group.accept(gathering(MaxStatementWindows - len(small))); err != nil {
		t.Fatal(err)
	}
	if got := <-statements; got != len(small)+1 {
		t.Fatalf("a full statement has %d postings, want %d", got, len(small)+1)
	}

	if err := group.accept(gathering(1)); err != nil {
		t.Fatal(err)
	}
	group.close()
	if got := <-statements; got != 1 {
		t.Fatalf("closing sent %d postings, want the one that waited", got)
	}
	if err := group.accept(gathering(1)); err == nil {
		t.Fatal("a closed group took a posting")
	}
}

func gathering(windows int) *posting {
	return &posting{
		meter: workflows.Meter{Currency: "usd"}, periods: make([]billing.Period, windows),
		abandoned: func() bool { return false }, done: make(chan error, 1),
	}
}
