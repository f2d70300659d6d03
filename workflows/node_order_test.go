package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/node"
)

func TestPrecedenceOfTheOperatorsWords(t *testing.T) {
	verbs := []string{VerbCordon, VerbUncordon, VerbDrain, VerbQuarantine, VerbUnquarantine, VerbDeny}
	want := map[node.Scheduling]map[string]node.Scheduling{
		node.Open: {
			VerbCordon: node.Cordoned, VerbUncordon: node.Open, VerbDrain: node.Draining,
			VerbQuarantine: node.Quarantined, VerbUnquarantine: node.Open, VerbDeny: node.Denied,
		},
		node.Cordoned: {
			VerbCordon: node.Cordoned, VerbUncordon: node.Open, VerbDrain: node.Draining,
			VerbQuarantine: node.Quarantined, VerbUnquarantine: node.Cordoned, VerbDeny: node.Denied,
		},
		node.Draining: {
			VerbCordon: node.Draining, VerbUncordon: node.Open, VerbDrain: node.Draining,
			VerbQuarantine: node.Quarantined, VerbUnquarantine: node.Draining, VerbDeny: node.Denied,
		},
		node.Quarantined: {
			VerbCordon: node.Quarantined, VerbUncordon: node.Quarantined, VerbDrain: node.Quarantined,
			VerbQuarantine: node.Quarantined, VerbUnquarantine: node.Open, VerbDeny: node.Denied,
		},
		node.Denied: {
			VerbCordon: node.Denied, VerbUncordon: node.Denied, VerbDrain: node.Denied,
			VerbQuarantine: node.Denied, VerbUnquarantine: node.Quarantined, VerbDeny: node.Denied,
		},
	}
	for _, current := range node.Schedulings() {
		for _, verb := range verbs {
			next, _ := ordered(current, verb, true)
			require.Equal(t, want[current][verb], next, "%s while %s, held", verb, current)
		}
	}
	free, _ := ordered(node.Open, VerbDrain, false)
	require.Equal(t, node.Cordoned, free, "a node that nobody holds has drained already")
	_, refusal := ordered(node.Open, "exec", false)
	require.NotEmpty(t, refusal)
}
