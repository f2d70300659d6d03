//go:build integration

package activities_test

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

func (w *world) budget(principal identity.Principal, version int, amount money.Micros) {
	w.t.Helper()
	w.exec(`INSERT INTO project_budgets (tenant_id, project_id, version, amount_micros, period, warning_percent, actor_user_id, created_at)
		VALUES ($1, $2, $3, $4, 'month', 80, 'user_ada', $5)`, principal.TenantID, principal.ProjectID, version, int64(amount), w.now)
}

func TestABudgetWarnsEndsAndRefuses(t *testing.T) {
	w := newWorld(t, 3)
	w.setPolicy("billing.runway_seconds", "60")
	principal := w.tenant("ada", 1_000_000*microsASecond)
	w.budget(principal, 1, 1000*microsASecond+5)
	began := w.now
	funds := &activities.Funds{Pool: w.App, Now: func() time.Time { return w.now }}
	terms := w.inUse(principal, "k1")
	if review := w.review(funds, principal); !review.Next.Equal(began.Add(800*time.Second+time.Millisecond)) || len(review.Releases) != 0 {
		t.Fatalf("at first: %+v", review)
	}
	w.now = began.Add(950 * time.Second)
	if reply := w.admit(request(principal, "k2")); reply.Fault == nil || reply.Fault.Code != string(fault.BudgetExceeded) {
		t.Errorf("with 50 s left for two: %+v", reply.Fault)
	}
	w.review(funds, principal)
	w.now = began.Add(1000*time.Second + 300*time.Millisecond)
	for range 3 {
		review := w.review(funds, principal)
		if len(review.Releases) != 1 || !review.Releases[0].AskedAt.Equal(began.Add(1000*time.Second)) || review.Releases[0].Cause != allocation.CauseLimit {
			t.Fatalf("at the end: %+v", review)
		}
	}
	for subject, want := range map[string]int{"billing.budget_warning": 1, "billing.budget_exhausted": 1, "billing.balance_depleted": 0} {
		if n := w.count(`SELECT count(*) FROM outbox WHERE subject = $1`, subject); n != want {
			t.Errorf("%d events %s, want %d", n, subject, want)
		}
	}
	end := began.Add(1000 * time.Second)
	w.mustStep(terms, 3, "active", "releasing", workflows.Transition{MeteredTo: &end, Cause: allocation.CauseLimit})
	if review := w.review(funds, principal); len(review.Releases) != 0 || review.Costing != 0 {
		t.Errorf("after the release: %+v", review)
	}
	if reply := w.admit(request(principal, "k3")); reply.Fault == nil || reply.Fault.Code != string(fault.BudgetExceeded) {
		t.Errorf("with nothing left: %+v", reply.Fault)
	}
	w.budget(principal, 2, 5000*microsASecond)
	w.mustAdmit(principal, "k4")
}
