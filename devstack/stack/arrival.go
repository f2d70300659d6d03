package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gpuaas/gpuaas/agent/sim"
	"github.com/gpuaas/gpuaas/domain/node"
)

// nodeView is a node as operators see it.
type nodeView struct {
	ID           string            `json:"id"`
	Hostname     string            `json:"hostname"`
	Reachability node.Reachability `json:"reachability"`
	Scheduling   node.Scheduling   `json:"scheduling"`
	LastSeenAt   time.Time         `json:"last_seen_at"`
}

// listNodes reads every node, page by page.
func (o *Opening) listNodes(ctx context.Context) ([]nodeView, error) {
	var all []nodeView
	for cursor := ""; ; {
		var page struct {
			Items      []nodeView `json:"items"`
			NextCursor string     `json:"next_cursor"`
		}
		if err := o.platform.call(ctx, operator, http.MethodGet, "/api/v1/admin/nodes?limit=200"+cursor, "", nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all, nil
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// rememberNodes notes when each node was last heard of. A row goes on to say online for a while after its node has gone, as after a kill -9, so that
// only what is heard after this counts.
func (o *Opening) rememberNodes(ctx context.Context) error {
	nodes, err := o.listNodes(ctx)
	if err != nil {
		return err
	}
	o.before = make(map[string]time.Time, len(nodes))
	for _, n := range nodes {
		o.before[n.ID] = n.LastSeenAt
	}
	return nil
}

// AwaitNodes returns when every simulated node of the fleet file is online in this life of the instance. It waits for none that an operator has
// denied, because nothing is heard of it until that is taken back, and answers their names.
func (o *Opening) AwaitNodes(ctx context.Context) (denied []string, err error) {
	err = until(ctx, "the simulated nodes do not come online", func() error {
		nodes, err := o.listNodes(ctx)
		if err != nil {
			return err
		}
		members, err := o.readFleet()
		if err != nil {
			return err
		}
		denied, err = arrived(members, nodes, o.before)
		return err
	})
	return denied, err
}

func (o *Opening) readFleet() ([]sim.Member, error) {
	raw, err := os.ReadFile(filepath.Join(o.directory, fleetName))
	if err != nil {
		return nil, err
	}
	var members []sim.Member
	return members, json.Unmarshal(raw, &members)
}

// arrived names the members that are denied, or is an error that names the first one that is neither online since before nor denied.
func arrived(members []sim.Member, nodes []nodeView, before map[string]time.Time) (denied []string, err error) {
	online, cut := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		cut[n.Hostname] = cut[n.Hostname] || n.Scheduling == node.Denied
		heard := n.LastSeenAt.After(before[n.ID])
		online[n.Hostname] = online[n.Hostname] || heard && n.Reachability == node.Online
	}
	for _, member := range members {
		switch {
		case online[member.Name]:
		case cut[member.Name]:
			denied = append(denied, member.Name)
		default:
			return nil, fmt.Errorf("%s is not online", member.Name)
		}
	}
	return denied, nil
}
