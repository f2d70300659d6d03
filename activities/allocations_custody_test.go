//go:build integration

package activities_test

import (
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

func TestAGivenUpNodeStaysInCustodyAndAnotherIsClaimed(t *testing.T) {
	w := newWorld(t, 3)
	principal := w.tenant("ada", 4*runwayOfOne)
	in, terms := w.mustAdmit(principal, "k1")
	w.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{})
	giveUp := workflows.GiveUpNodeIn{Lease: terms.Lease, Reason: "it does not answer", CorrelationID: "c"}
	for range 2 {
		if _, err := w.tools.GiveUpNode(t.Context(), giveUp); err != nil {
			t.Fatal(err)
		}
	}
	record, err := w.nodes.Record(t.Context(), terms.Lease.NodeID)
	if err != nil || record.Scheduling != node.Quarantined || !record.GivenUp || record.Lease == nil || record.Version != 3 {
		t.Fatalf("the given-up node is %+v, %v", record, err)
	}
	if n := w.count("SELECT count(*) FROM audit_logs WHERE action = 'lease.give_up'"); n != 1 {
		t.Errorf("%d audit rows of giving up", n)
	}

	another := workflows.ClaimAnotherIn{AllocationID: in.AllocationID, TenantID: terms.TenantID, SKU: testSKU, After: terms.Lease}
	first, err := w.tools.ClaimAnother(t.Context(), another)
	if err != nil || first.Lease == nil || first.Lease.NodeID == terms.Lease.NodeID {
		t.Fatalf("the next claim is %+v, %v", first, err)
	}
	repeat, err := w.tools.ClaimAnother(t.Context(), another)
	if err != nil || *repeat.Lease != *first.Lease {
		t.Errorf("a repeat claims %+v, %v", repeat.Lease, err)
	}
	w.mustAdmit(principal, "takes the last node")
	another.After = *first.Lease
	none, err := w.tools.ClaimAnother(t.Context(), another)
	if err != nil || none.Lease != nil {
		t.Errorf("with every node taken the claim is %+v, %v", none.Lease, err)
	}
	another.After.Generation = 99
	if _, err := w.tools.ClaimAnother(t.Context(), another); fault.CodeOf(err) != fault.NodeGenerationStale {
		t.Errorf("a lease that never was answers %v", err)
	}
}

func TestALeaseClosesOnEvidenceAlone(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", 4*runwayOfOne)
	_, terms := w.mustAdmit(principal, "k1")
	if _, err := w.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: terms.Lease}); fault.CodeOf(err) != fault.ScrubUnverified {
		t.Errorf("without evidence the lease answers %v", err)
	}
	stale := terms.Lease
	stale.Generation = 7
	evidence := node.ScrubVerifyOut{Checks: []string{"no_user"}, Assurance: "user-revoke"}
	if _, err := w.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: stale, Evidence: evidence}); fault.CodeOf(err) != fault.NodeGenerationStale {
		t.Errorf("another generation answers %v", err)
	}
	if n := w.count("SELECT count(*) FROM nodes WHERE claimed_by IS NULL"); n != 0 {
		t.Fatal("the node was freed without evidence")
	}
	for range 2 {
		if _, err := w.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: terms.Lease, Evidence: evidence}); err != nil {
			t.Fatal(err)
		}
	}
	_, next := w.mustAdmit(principal, "k2")
	if next.Lease.NodeID != terms.Lease.NodeID || next.Lease.Generation != terms.Lease.Generation+1 {
		t.Errorf("the next lease is %+v after %+v", next.Lease, terms.Lease)
	}
	// A late repeat for the old generation must not free the node under its new tenant.
	if _, err := w.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: terms.Lease, Evidence: evidence}); err != nil {
		t.Fatal(err)
	}
	lease, err := queries.OpenLease(t.Context(), w.App, next.Lease.NodeID)
	if err != nil || lease.Key() != next.Lease {
		t.Errorf("the open lease is %+v, %v", lease, err)
	}
}

// A transaction that began before a lease ended, and had to wait for its node, must not say that it had the node before.
func TestALeaseBeginsAfterTheOneBeforeItEnded(t *testing.T) {
	w := newWorld(t, 1)
	_, before := w.mustAdmit(w.tenant("ada", 4*runwayOfOne), "k1")
	older := begin(t, w.App)
	if _, err := older.Exec(t.Context(), "SELECT now(), pg_sleep(0.005)"); err != nil {
		t.Fatal(err)
	}
	evidence := node.ScrubVerifyOut{Checks: []string{"no_user"}, Assurance: "user-revoke"}
	if _, err := w.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: before.Lease, Evidence: evidence}); err != nil {
		t.Fatal(err)
	}
	next, err := queries.ClaimNode(t.Context(), older, testSKU, newID[id.Allocation](), 1, nil)
	if err != nil || next == nil || next.NodeID != before.Lease.NodeID {
		t.Fatalf("the next claim is %+v, %v", next, err)
	}
	if err := older.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count("SELECT count(*) FROM node_leases AS next JOIN node_leases AS before ON before.generation = next.generation - 1 AND next.claimed_at >= before.closed_at"); n != 1 {
		t.Error("the lease began before the one before it ended")
	}
}

func TestNodeTransitionComparesAndSets(t *testing.T) {
	w := newWorld(t, 1)
	_, terms := w.mustAdmit(w.tenant("ada", runwayOfOne), "k1")
	in := workflows.NodeTransition{
		NodeID: terms.Lease.NodeID, Version: 2, Reachability: node.Online, Scheduling: node.Draining, Reason: "maintenance",
		Actor: identity.Platform(), Action: "node.drain", CorrelationID: "c",
	}
	for range 2 {
		done, err := w.nodes.Transition(t.Context(), in)
		if err != nil || done.Version != 3 || done.Lease == nil || *done.Lease != terms.Lease {
			t.Fatalf("the transition answers %+v, %v", done, err)
		}
	}
	if n := w.count("SELECT count(*) FROM audit_logs WHERE action = 'node.drain'"); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	in.Scheduling = node.Open
	if _, err := w.nodes.Transition(t.Context(), in); fault.CodeOf(err) != fault.NodeStateConflict {
		t.Errorf("a stale version answers %v", err)
	}
	if _, err := w.nodes.Record(t.Context(), newNodeID()); fault.CodeOf(err) != fault.NodeNotFound {
		t.Errorf("an unknown node answers %v", err)
	}
}
