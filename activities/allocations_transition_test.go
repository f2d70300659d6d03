//go:build integration

package activities_test

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

func TestTransitionComparesAndSets(t *testing.T) {
	w := newWorld(t, 1)
	_, terms := w.mustAdmit(w.tenant("ada", runwayOfOne), "k1")
	w.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{})

	for name, stale := range map[string]struct {
		version  int64
		from, to string
	}{
		"a version that has passed":     {1, "requested", "failed"},
		"a version that has not come":   {3, "provisioning", "active"},
		"a state that does not stand":   {2, "active", "releasing"},
		"an arrow that does not exist":  {2, "provisioning", "released"},
		"another arrow at this version": {1, "requested", "releasing"},
	} {
		if _, err := w.step(terms, stale.version, stale.from, stale.to, workflows.Transition{}); fault.CodeOf(err) != fault.AllocationStateConflict {
			t.Errorf("%s answers %v", name, err)
		}
	}
	before := w.count("SELECT count(*) FROM outbox") + w.count("SELECT count(*) FROM audit_logs")
	done, err := w.step(terms, 1, "requested", "provisioning", workflows.Transition{})
	if err != nil || done.Version != 2 {
		t.Errorf("a repeat answers %+v, %v", done, err)
	}
	if after := w.count("SELECT count(*) FROM outbox") + w.count("SELECT count(*) FROM audit_logs"); after != before {
		t.Errorf("a repeat wrote %d more rows", after-before)
	}
}

func TestTransitionOfAnotherTenantDoesNotStand(t *testing.T) {
	w := newWorld(t, 1)
	_, terms := w.mustAdmit(w.tenant("ada", runwayOfOne), "k1")
	terms.TenantID = w.tenant("mallory", 0).TenantID
	if _, err := w.step(terms, 1, "requested", "provisioning", workflows.Transition{}); fault.CodeOf(err) != fault.AllocationStateConflict {
		t.Errorf("another tenant's step answers %v", err)
	}
}

func TestTransitionTellsItsEvents(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", runwayOfOne)
	in, terms := w.mustAdmit(principal, "k1")
	anchor, end := w.now.Add(time.Minute), w.now.Add(2*time.Minute)
	access := &workflows.Access{Username: "gpu1", SSHHost: "192.0.2.1", SSHPort: 22, SSHHostKey: "ssh-ed25519 AAAA"}
	w.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{Lease: &terms.Lease})
	w.mustStep(terms, 2, "provisioning", "active", workflows.Transition{MeteredFrom: &anchor, Access: access})
	w.mustStep(terms, 3, "active", "releasing", workflows.Transition{MeteredTo: &end, Cause: allocation.CauseFunds})
	w.mustStep(terms, 4, "releasing", "release_failed", workflows.Transition{Failure: &workflows.Fault{Code: string(fault.ScrubUnverified), Message: "it is still there"}})
	w.mustStep(terms, 5, "release_failed", "releasing", workflows.Transition{Cause: allocation.CauseAdmin})
	w.mustStep(terms, 6, "releasing", "released", workflows.Transition{Certificate: &workflows.ReleaseCertificate{Wiped: true, NodeID: terms.Lease.NodeID}})

	for subject, want := range map[string]int{
		"provisioning.requested": 1, "provisioning.active": 1, "provisioning.releasing.requested": 2, "billing.balance_depleted": 0,
		"provisioning.force_release_requested": 2, "provisioning.release_failed": 1, "provisioning.releasing.completed": 1, "provisioning.failed": 0,
	} {
		if got := w.count("SELECT count(*) FROM outbox WHERE subject = $1", subject); got != want {
			t.Errorf("%d %s events, not %d", got, subject, want)
		}
	}
	if distinct, all := w.count("SELECT count(DISTINCT msg_id) FROM outbox"), w.count("SELECT count(*) FROM outbox"); distinct != all {
		t.Errorf("%d message ids for %d events", distinct, all)
	}
	row, err := queries.GetAllocation(t.Context(), w.App, principal.TenantID, in.AllocationID)
	if err != nil {
		t.Fatal(err)
	}
	if row.Version != 7 || row.EndedAt == nil || !row.MeteredFrom.Equal(anchor) || !row.MeteredTo.Equal(end) || row.SSHHost != "192.0.2.1" ||
		row.FailureCode != string(fault.ScrubUnverified) || row.Certificate == nil || *row.ReleaseCause != allocation.CauseAdmin {
		t.Errorf("the row is %+v", row)
	}
	timeline, err := queries.ListTransitions(t.Context(), w.App, principal.TenantID, in.AllocationID)
	if err != nil || len(timeline) != 7 || timeline[0].FromState != nil || timeline[6].ToState != allocation.Released {
		t.Errorf("the timeline is %+v, %v", timeline, err)
	}
	if n := w.count("SELECT count(*) FROM audit_logs WHERE target_id = $1", string(in.AllocationID)); n != 7 {
		t.Errorf("%d audit rows, not 7", n)
	}
}
