//go:build integration

package activities_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

func (b *books) recalled(allocationID id.Allocation) workflows.Recalled {
	b.t.Helper()
	found, err := b.tools.Recall(b.t.Context(), workflows.RecallIn{AllocationID: allocationID})
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// Step by step through a life, what is read back is what its workflow would have carried.
func TestWhatIsRecalledIsWhatWasWrittenDown(t *testing.T) {
	b := newBooks(t)
	b.addNode("first")
	b.addNode("second")
	owner := b.tenant("ada", 40*runwayOfOne)
	in := request(owner, "k1")
	in.MaxSpendMicros, in.MaxDurationSeconds = 5_000_000, 7200
	terms := *b.admit(in).Terms

	b.now = b.now.Add(3 * time.Second)
	found := b.recalled(in.AllocationID)
	if found.State != allocation.Requested || found.Version != 1 || found.Lease == nil || *found.Lease != terms.Lease || found.Anchor != nil || found.Holds != nil {
		t.Fatalf("an admitted one is %+v", found)
	}
	if found.NumberedFrom != 3000 || found.WipeAttempts != 3000 || found.BudgetFrom != 3000 || found.AccessTasks != 3000 {
		t.Errorf("its tasks are numbered from %d, %d, %d", found.WipeAttempts, found.BudgetFrom, found.AccessTasks)
	}
	if !reflect.DeepEqual(found.Terms, terms) {
		t.Errorf("the terms are\n%+v\nand were\n%+v", found.Terms, terms)
	}

	b.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{})
	if _, err := b.tools.GiveUpNode(t.Context(), workflows.GiveUpNodeIn{Lease: terms.Lease, Reason: "silent", CorrelationID: "c"}); err != nil {
		t.Fatal(err)
	}
	found = b.recalled(in.AllocationID)
	if found.Lease != nil || found.LastLease == nil || *found.LastLease != terms.Lease || len(found.GivenUp) != 1 || found.Certificate != nil ||
		len(found.Reclaims) != 1 || found.Reclaims[0].Lease != terms.Lease || found.Reclaims[0].Abandoned || !found.Reclaims[0].Again {
		t.Fatalf("one whose node was given up is %+v", found)
	}
	claim, err := b.tools.ClaimAnother(t.Context(), workflows.ClaimAnotherIn{AllocationID: in.AllocationID, TenantID: terms.TenantID, SKU: testSKU, After: *found.LastLease})
	if err != nil {
		t.Fatal(err)
	}
	lease := *claim.Lease
	anchor, access := b.now, workflows.Access{Username: node.Username(lease), SSHHost: "10.0.0.1", SSHPort: 22, SSHHostKey: "ssh-ed25519 HOST"}
	b.mustStep(terms, 2, "provisioning", "active", workflows.Transition{MeteredFrom: &anchor, Access: &access, Lease: &lease})
	found = b.recalled(in.AllocationID)
	if found.State != allocation.Active || found.Version != 3 || *found.Lease != lease || found.LastNode != lease.NodeID || *found.Access != access ||
		len(found.Reclaims) != 1 || found.Reclaims[0].Abandoned || !found.Anchor.Equal(anchor) || !found.PostedTo.Equal(anchor) || found.ChargedMicros != 0 {
		t.Fatalf("an active one is %+v", found)
	}

	meter := workflows.Meter{
		AllocationID: in.AllocationID, TenantID: terms.TenantID, AccountID: terms.AccountID, Currency: "usd", RateMicrosPerHour: terms.RateMicrosPerHour,
		WindowSeconds: terms.WindowSeconds, Anchor: anchor, CorrelationID: "c",
	}
	window := time.Duration(terms.WindowSeconds) * time.Second
	b.now = anchor.Add(2*window + time.Second)
	if _, err := b.ledger.PostWindows(t.Context(), workflows.PostWindowsIn{Meter: meter, From: anchor, To: anchor.Add(2 * window), Now: b.now}); err != nil {
		t.Fatal(err)
	}
	if found = b.recalled(in.AllocationID); !found.PostedTo.Equal(anchor.Add(2*window)) || found.ChargedMicros != exactCharge(meter, anchor.Add(2*window)) || found.Settled {
		t.Fatalf("after two windows it is %+v", found)
	}
	b.suspendedAndSettled(in.AllocationID, meter, terms)

	end := b.now.Add(-time.Second)
	b.mustStep(terms, 3, "active", "releasing", workflows.Transition{MeteredTo: &end, Cause: allocation.CauseTenant})
	if found = b.recalled(in.AllocationID); found.State != allocation.Releasing || !found.MeteredTo.Equal(end) || found.Settled || *found.Lease != lease || found.Holds != nil {
		t.Fatalf("one being released is %+v", found)
	}
	bill, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: end})
	if err != nil {
		t.Fatal(err)
	}
	evidence := node.ScrubVerifyOut{Checks: []string{"no_user", "no_file"}, Assurance: "user-revoke"}
	if _, err := b.tools.CloseLease(t.Context(), workflows.CloseLeaseIn{Lease: lease, Evidence: evidence}); err != nil {
		t.Fatal(err)
	}
	found = b.recalled(in.AllocationID)
	if found.Lease != nil || *found.LastLease != lease || !found.Settled || found.ChargedMicros != bill.ChargedMicros-bill.CreditedMicros ||
		found.Certificate == nil || !found.Certificate.Wiped || len(found.Certificate.Checks) != 2 || found.Certificate.NodeID != lease.NodeID {
		t.Fatalf("one whose node was handed back is %+v, certificate %+v", found, found.Certificate)
	}
	b.mustStep(terms, 4, "releasing", "released", workflows.Transition{Certificate: found.Certificate})
	if found = b.recalled(in.AllocationID); found.State != allocation.Released || found.Certificate != nil {
		t.Fatalf("a released one is %+v", found)
	}
}

// suspendedAndSettled has the allocation stand still, and its tenant let in again without the row saying so.
func (b *books) suspendedAndSettled(allocationID id.Allocation, meter workflows.Meter, terms workflows.Terms) {
	b.t.Helper()
	since := b.now
	record := workflows.RecordSuspensionIn{
		AllocationID: allocationID, TenantID: terms.TenantID, At: &since, Since: since, Actor: identity.Platform(), Reason: "unpaid", CorrelationID: "c",
	}
	if _, err := b.tools.RecordSuspension(b.t.Context(), record); err != nil {
		b.t.Fatal(err)
	}
	b.exec(`UPDATE tenants SET status = 'suspended', status_at = $2, status_reason = 'unpaid' WHERE id = $1`, terms.TenantID, since)
	b.exec(`UPDATE users SET status = 'suspended', status_at = $2, status_reason = 'also' WHERE id = $1`, terms.UserID, since)
	found := b.recalled(allocationID)
	if found.SuspendedAt == nil || !found.SuspendedAt.Equal(since) || found.SuspensionSettled || found.AccessCut || len(found.Holds) != 2 ||
		found.Holds[0].Subject != string(terms.TenantID) || found.Holds[1].Subject != string(terms.UserID) || !found.Holds[0].ReleaseAt.After(since) {
		b.t.Fatalf("a suspended one is %+v", found)
	}
	b.exec(`UPDATE tenants SET status = 'active' WHERE id = $1`, terms.TenantID)
	b.exec(`UPDATE users SET status = 'active' WHERE id = $1`, terms.UserID)
	b.now = b.now.Add(90 * time.Second)
	bill, err := b.ledger.SettleSuspension(b.t.Context(), workflows.SettleSuspensionIn{Meter: meter, From: since, To: b.now})
	if err != nil {
		b.t.Fatal(err)
	}
	found = b.recalled(allocationID)
	if !found.SuspensionSettled || len(found.Holds) != 0 || !found.PostedTo.Equal(b.now) || found.ChargedMicros != bill.ChargedMicros-bill.CreditedMicros {
		b.t.Fatalf("one that was let in again is %+v", found)
	}
	record.At = nil
	if _, err := b.tools.RecordSuspension(b.t.Context(), record); err != nil {
		b.t.Fatal(err)
	}
	if found = b.recalled(allocationID); found.SuspendedAt != nil || found.SuspensionSettled {
		b.t.Fatalf("one in use again is %+v", found)
	}
	b.now = b.now.Add(20 * time.Second)
}

// A node that was given up in use was abandoned on an admin's word, and is not scrubbed by itself.
func TestANodeThatWasAbandonedIsRecalledAsThat(t *testing.T) {
	b := newBooks(t)
	b.addNode("only")
	owner := b.tenant("ada", 40*runwayOfOne)
	in, terms := b.mustAdmit(owner, "k1")
	b.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{})
	anchor := b.now
	b.mustStep(terms, 2, "provisioning", "active", workflows.Transition{MeteredFrom: &anchor, Access: &workflows.Access{Username: "gpu1", SSHHost: "10.0.0.1", SSHPort: 22}, Lease: &terms.Lease})
	b.mustStep(terms, 3, "active", "releasing", workflows.Transition{MeteredTo: &anchor, Cause: allocation.CauseAdmin})
	if _, err := b.tools.GiveUpNode(t.Context(), workflows.GiveUpNodeIn{Lease: terms.Lease, Reason: "broken", CorrelationID: "c", Abandoned: true}); err != nil {
		t.Fatal(err)
	}
	found := b.recalled(in.AllocationID)
	if found.Lease != nil || len(found.Reclaims) != 1 || !found.Reclaims[0].Abandoned || found.Certificate == nil || found.Certificate.Wiped {
		t.Errorf("it is %+v, certificate %+v", found, found.Certificate)
	}
}

func TestRecallingWhatNeverWasSaysSo(t *testing.T) {
	b := newBooks(t)
	if _, err := b.tools.Recall(t.Context(), workflows.RecallIn{AllocationID: newID[id.Allocation]()}); fault.CodeOf(err) != fault.AllocationNotFound {
		t.Errorf("it is answered %v", err)
	}
}
