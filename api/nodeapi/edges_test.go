package nodeapi

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// What was not taken is tried again under its own request id, and not by every heartbeat; what was taken is left alone
// for longer, and then is a new request.
func TestAnEdgeIsToldAgainUnderItsRequest(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEdges(nil)
	first, due := e.due(nodeA, node.Online, now)
	if !due || first == "" {
		t.Fatalf("a new edge is due: %v, as %q", due, first)
	}
	if _, due := e.due(nodeA, node.Online, now.Add(signalRetry-time.Millisecond)); due {
		t.Error("the next heartbeat tells it again at once")
	}
	if other, due := e.due(nodeB, node.Online, now); !due || other == first {
		t.Errorf("another node's edge is due: %v, as %q", due, other)
	}
	retried, due := e.due(nodeA, node.Online, now.Add(2*signalRetry))
	if !due || retried != first {
		t.Errorf("what was not taken is due: %v, as %q", due, retried)
	}
	e.told(nodeA, first, now.Add(2*signalRetry))
	if _, due := e.due(nodeA, node.Online, now.Add(2*signalRetry+signalAgain-time.Millisecond)); due {
		t.Error("what was taken is told again too early")
	}
	if again, due := e.due(nodeA, node.Online, now.Add(2*signalRetry+signalAgain)); !due || again == first {
		t.Errorf("what was taken and had no effect is due: %v, as %q", due, again)
	}
	if gone, due := e.due(nodeA, node.Offline, now.Add(2*signalRetry+signalAgain)); !due || gone == first {
		t.Errorf("the opposite edge is due: %v, as %q", due, gone)
	}
}

func TestOurOwnDeafnessIsNotANodesSilence(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	patience := 20 * time.Second
	old := start.Add(-time.Hour)
	silent := []queries.SilentNode{{ID: nodeA, LastSeenAt: &old}, {ID: nodeB}}
	s := newSilence(start)
	steps := []struct {
		name  string
		after time.Duration
		blind bool
		found int
	}{
		{"just started", 0, false, 0},
		{"heard for less than patience", 19 * time.Second, false, 0},
		{"heard long enough: both, with and without a beat on record", 20 * time.Second, false, 2},
		{"the database went away", 30 * time.Second, true, 0},
		{"it is back and nobody could have been heard", 40 * time.Second, false, 0},
		{"heard long enough again", 50 * time.Second, false, 2},
	}
	for _, step := range steps {
		now := start.Add(step.after)
		if step.blind {
			s.blind(now)
			continue
		}
		if found := s.believable(silent, patience, now); len(found) != step.found {
			t.Errorf("%s: %d nodes, want %d", step.name, len(found), step.found)
		}
	}
	// The table was emptied by a crash of the database that nobody noticed: each node gets its full time again.
	s.believable(nil, patience, start.Add(60*time.Second))
	if found := s.believable([]queries.SilentNode{{ID: nodeB}}, patience, start.Add(61*time.Second)); len(found) != 0 {
		t.Error("a node without a beat on record counts as silent at once")
	}
	if found := s.believable([]queries.SilentNode{{ID: nodeB}}, patience, start.Add(81*time.Second)); len(found) != 1 {
		t.Error("a node without a beat on record never counts as silent")
	}
}
