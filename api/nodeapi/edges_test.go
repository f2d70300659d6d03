package nodeapi

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/schema/queries"
)

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
