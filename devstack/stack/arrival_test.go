package stack

import (
	"slices"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/agent/sim"
	"github.com/gpuaas/gpuaas/domain/node"
)

func TestWhoHasArrived(t *testing.T) {
	const name = "sim-001"
	lastLife := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	now := lastLife.Add(time.Minute)
	row := func(id string, reachability node.Reachability, scheduling node.Scheduling, seen time.Time) nodeView {
		return nodeView{ID: id, Hostname: name, Reachability: reachability, Scheduling: scheduling, LastSeenAt: seen}
	}
	cases := map[string]struct {
		nodes   []nodeView
		arrived bool
		denied  []string
	}{
		"a node that never enrolled":                     {},
		"a node that enrolled and was not heard of":      {nodes: []nodeView{row("new", node.Enrolled, node.Open, time.Time{})}},
		"a new node that is heard of":                    {nodes: []nodeView{row("new", node.Online, node.Open, now)}, arrived: true},
		"a row that says online from the last life":      {nodes: []nodeView{row("old", node.Online, node.Open, lastLife)}},
		"a node that came back":                          {nodes: []nodeView{row("old", node.Online, node.Open, now)}, arrived: true},
		"a node that is heard of and still offline":      {nodes: []nodeView{row("old", node.Offline, node.Open, now)}},
		"a cordoned node that is away":                   {nodes: []nodeView{row("old", node.Offline, node.Cordoned, lastLife)}},
		"a quarantined node that is back":                {nodes: []nodeView{row("old", node.Online, node.Quarantined, now)}, arrived: true},
		"a denied node, which nobody hears":              {nodes: []nodeView{row("old", node.Offline, node.Denied, lastLife)}, arrived: true, denied: []string{name}},
		"a denied node whose row still says online":      {nodes: []nodeView{row("old", node.Online, node.Denied, lastLife)}, arrived: true, denied: []string{name}},
		"a denied node beside its successor of the name": {nodes: []nodeView{row("new", node.Online, node.Open, now), row("old", node.Offline, node.Denied, lastLife)}, arrived: true},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			denied, err := arrived([]sim.Member{{Name: name}}, c.nodes, map[string]time.Time{"old": lastLife})
			if (err == nil) != c.arrived || !slices.Equal(denied, c.denied) {
				t.Errorf("it gives %v, %v", denied, err)
			}
		})
	}
}
