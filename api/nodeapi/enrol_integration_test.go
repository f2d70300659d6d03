//go:build integration

package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

func TestANodeEnrolsBeatsFallsSilentAndComesBack(t *testing.T) {
	w := newWorld(t)
	w.platform()
	text, nodeID := w.token("gpu-1", time.Hour)
	files := gateway.Files{Directory: t.TempDir()}
	trust := gateway.Trust{Fingerprint: w.server.RootFingerprint()}
	inventory := node.Inventory{Hostname: "gpu-1", CPUs: 8, GPUs: []node.GPU{{Model: "H100"}}, SSHHost: "10.0.0.1", SSHPort: 22}
	answer, err := gateway.Enrol(w.ctx(), w.url, trust, text, inventory, files)
	if err != nil {
		t.Fatal(err)
	}
	if answer.NodeID != nodeID || answer.Settings.TaskQueue != workflows.NodeQueue(nodeID) || answer.Settings.FloorGeneration != 0 || answer.Settings.HeartbeatIntervalSeconds != 1 {
		t.Fatalf("enrolled as %+v", answer)
	}
	n, err := gateway.Connect(w.url, files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.NodeID() != nodeID {
		t.Fatalf("the certificate names %s, not %s", n.NodeID(), nodeID)
	}
	row, err := queries.GetNode(w.ctx(), w.db.App, nodeID)
	if err != nil || row.Reachability != node.Enrolled || row.SSHHost != "10.0.0.1" {
		t.Fatalf("the node stands as %+v, %v", row, err)
	}
	becomes := func(want node.Reachability, beating bool) {
		t.Helper()
		temporaltest.Eventually(t, patience, func() error {
			if beating {
				if _, err := n.Heartbeat(w.ctx(), gateway.HeartbeatRequest{AgentVersion: "1"}); err != nil {
					return err
				}
			}
			row, err := queries.GetNode(w.ctx(), w.db.App, nodeID)
			if err == nil && row.Reachability != want {
				return fmt.Errorf("the node is %s, not %s", row.Reachability, want)
			}
			return err
		})
	}
	becomes(node.Online, true)
	becomes(node.Offline, false)
	becomes(node.Online, true)

	// The floor follows the newest claim.
	if _, err := w.db.Owner.Exec(w.ctx(), "UPDATE nodes SET generation = 7 WHERE id = $1", nodeID); err != nil {
		t.Fatal(err)
	}
	settings, err := n.Heartbeat(w.ctx(), gateway.HeartbeatRequest{AgentVersion: "1"})
	if err != nil || settings.FloorGeneration != 7 {
		t.Fatalf("the floor is %d, %v", settings.FloorGeneration, err)
	}
	inventory.CPUs = 16
	if err := n.ReportInventory(w.ctx(), inventory); err != nil {
		t.Fatal(err)
	}
	// Renewal gives another key, used without a restart.
	before, err := os.ReadFile(files.Directory + "/identity.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Renew(w.ctx()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(files.Directory + "/identity.pem")
	if err != nil || string(before) == string(after) {
		t.Fatalf("the identity was not replaced, %v", err)
	}
	if _, err := n.Heartbeat(w.ctx(), gateway.HeartbeatRequest{AgentVersion: "1"}); err != nil {
		t.Fatal(err)
	}
}

func TestATokenEnrolsOneKeyAndRepeatsForItAlone(t *testing.T) {
	w := newWorld(t)
	text, nodeID := w.token("gpu-1", time.Hour)
	directory := t.TempDir()
	enrol := func(token, directory string) (id.Node, error) {
		answer, err := gateway.Enrol(w.ctx(), w.url, w.trust(), token, node.Inventory{}, gateway.Files{Directory: directory})
		return answer.NodeID, err
	}
	// The answer was lost: the node that dies before it heard has the same key when it asks again.
	pending := func() []byte {
		content, err := os.ReadFile(directory + "/enrol.key")
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := gateway.Enrol(cancelled, w.url, w.trust(), text, node.Inventory{}, gateway.Files{Directory: directory}); err == nil {
		t.Fatal("enrolled without asking")
	}
	key := pending()
	for attempt := range 2 {
		if err := os.WriteFile(directory+"/enrol.key", key, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := enrol(text, directory); err != nil || got != nodeID {
			t.Fatalf("attempt %d: %s, %v", attempt, got, err)
		}
	}
	if _, err := enrol(text, t.TempDir()); !errors.Is(err, fault.EnrolTokenInvalid) {
		t.Fatalf("another key used the token: %v", err)
	}
	if _, err := enrol("no such token", t.TempDir()); !errors.Is(err, fault.EnrolTokenInvalid) {
		t.Fatalf("an unknown token: %v", err)
	}
	// A token whose time is over is no use, not even to the key that used it.
	if _, err := w.db.Owner.Exec(w.ctx(), "UPDATE node_enrol_tokens SET expires_at = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(directory+"/enrol.key", key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := enrol(text, directory); !errors.Is(err, fault.EnrolTokenInvalid) {
		t.Fatalf("an expired token: %v", err)
	}
	// Another node's hostname is taken, and the token is not used up by the refusal.
	w.insertToken("second", id.New[id.Node]([16]byte{9}), "gpu-1", time.Hour)
	for range 2 {
		if _, err := enrol("second", t.TempDir()); !errors.Is(err, fault.NodeAlreadyExists) {
			t.Fatalf("a taken hostname: %v", err)
		}
	}
	// A denied node does not come back by a new token.
	w.deny(nodeID)
	w.insertToken("third", nodeID, "gpu-1", time.Hour)
	if _, err := enrol("third", t.TempDir()); !errors.Is(err, fault.NodeDenied) {
		t.Fatalf("a denied node: %v", err)
	}
}
