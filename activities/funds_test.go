//go:build integration

package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/workflows"
)

// inUse admits an allocation and has its meter run from w.now.
func (w *world) inUse(principal identity.Principal, key string) workflows.Terms {
	w.t.Helper()
	_, terms := w.mustAdmit(principal, key)
	anchor := w.now
	w.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{Lease: &terms.Lease})
	w.mustStep(terms, 2, "provisioning", "active", workflows.Transition{
		MeteredFrom: &anchor, Access: &workflows.Access{Username: "gpu1", SSHHost: "192.0.2.1", SSHPort: 22, SSHHostKey: "ssh-ed25519 AAAA"},
	})
	return terms
}

func (w *world) review(funds *activities.Funds, principal identity.Principal) workflows.FundsReview {
	w.t.Helper()
	review, err := funds.Review(w.t.Context(), workflows.ReviewFundsIn{AccountID: principal.AccountID, TenantID: principal.TenantID, CorrelationID: "corr"})
	if err != nil {
		w.t.Fatal(err)
	}
	return review
}

func TestReviewWritesEachRungOnceWithItsEvent(t *testing.T) {
	w := newWorld(t, 2)
	w.setPolicy("billing.runway_seconds", "0")
	w.setPolicy("billing.low_balance_threshold_minor", "1000") // 1000 s
	w.setPolicy("billing.auto_release_grace_seconds", "300")
	principal := w.tenant("ada", 2000*microsASecond)
	began := w.now
	funds := &activities.Funds{Pool: w.App, Now: func() time.Time { return w.now }}
	terms := w.inUse(principal, "k1")
	preparing, _ := w.mustAdmit(principal, "k2")

	review := w.review(funds, principal)
	if review.AvailableMicros != 2000*microsASecond || review.Costing != 1 || len(review.Standing) != 0 || !review.Next.Equal(began.Add(1000*time.Second)) ||
		!review.ZeroAt.Equal(began.Add(2000*time.Second)) || !review.PendingAt.Equal(began.Add(1700*time.Second)) {
		t.Fatalf("at first: %+v", review)
	}
	for i, at := range []time.Duration{1000 * time.Second, 1700 * time.Second, 2000 * time.Second} {
		rung := billing.Rungs()[i]
		w.now = began.Add(at)
		var looking sync.WaitGroup
		for range 8 { // the step delivered eight times at once
			looking.Go(func() {
				_, err := funds.Review(context.Background(), workflows.ReviewFundsIn{AccountID: principal.AccountID, TenantID: principal.TenantID})
				if err != nil {
					t.Error(err)
				}
			})
		}
		looking.Wait()
		if n := w.count(`SELECT count(*) FROM funds_crossings WHERE rung = $1 AND fact = 'reached' AND crossing = 1 AND at = $2`, string(rung), w.now); n != 1 {
			t.Errorf("%s was written %d times", rung, n)
		}
	}
	w.now = began.Add(2000*time.Second + 700*time.Millisecond)
	review = w.review(funds, principal)
	if len(review.Standing) != 3 || len(review.Releases) != 2 || review.Next != nil {
		t.Fatalf("at the end: %+v", review)
	}
	for _, order := range review.Releases {
		if !order.AskedAt.Equal(began.Add(2000*time.Second)) || (order.AllocationID != terms.Lease.AllocationID && order.AllocationID != preparing.AllocationID) {
			t.Errorf("the order is %+v", order)
		}
	}
	if n := w.count(`SELECT count(*) FROM outbox WHERE stream = 'BILLING' AND subject <> 'billing.usage_recorded'`); n != 3 {
		t.Errorf("%d events, not one a rung", n)
	}
	var envelope struct {
		Payload struct {
			Message     string    `json:"message"`
			Deadline    time.Time `json:"deadline"`
			Allocations []struct {
				Message string `json:"message"`
			} `json:"allocations"`
		} `json:"payload"`
	}
	var text []byte
	if err := w.Owner.QueryRow(t.Context(), `SELECT payload FROM outbox WHERE subject = 'billing.auto_release_pending'`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		t.Fatal(err)
	}
	const want = "The balance of 3.00 usd is used up at 2026-06-01 12:33:20 UTC. Then 2 allocations are released, and everything on the nodes is deleted " +
		"and cannot be brought back. Add funds before then to keep what runs."
	if envelope.Payload.Message != want || !envelope.Payload.Deadline.Equal(began.Add(2000*time.Second)) || len(envelope.Payload.Allocations) != 2 ||
		envelope.Payload.Allocations[0].Message != "train (h100-8x): all files, programs and logins on its node are deleted at 2026-06-01 12:33:20 UTC." {
		t.Errorf("the event says %+v", envelope.Payload)
	}

	w.credit(principal, 5000*microsASecond)
	if review = w.review(funds, principal); len(review.Standing) != 0 || len(review.Releases) != 0 {
		t.Errorf("after a credit: %+v", review)
	}
	for _, sql := range []string{
		`INSERT INTO funds_crossings (tenant_id, account_id, rung, crossing, fact, at, balance_micros, available_micros, correlation_id)
			SELECT tenant_id, account_id, rung, 3, 'reached', at, 0, 0, '' FROM funds_crossings WHERE rung = 'low_balance' AND fact = 'reached'`,
		`UPDATE funds_crossings SET late_ms = 0`, `DELETE FROM funds_crossings`,
	} {
		if _, err := w.Owner.Exec(t.Context(), sql); err == nil {
			t.Errorf("the database takes %s", sql)
		}
	}
}

// Whatever posting has come to, the end is the same millisecond: what is posted beyond it is given back.
func TestTheEndDoesNotDependOnHowFarWindowsArePosted(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", 1000*microsASecond)
	began := w.now
	funds := &activities.Funds{Pool: w.App, Now: func() time.Time { return w.now }}
	terms := w.inUse(principal, "k1")
	ledger := activities.NewLedger(w.App, policy.New(w.App), func() time.Time { return w.now }, slog.New(slog.DiscardHandler))
	t.Cleanup(ledger.Close)
	for _, posted := range []time.Duration{0, 10 * time.Minute, 30 * time.Minute} {
		w.now = began.Add(40 * time.Minute)
		if posted > 0 {
			in := workflows.PostWindowsIn{From: began, To: began.Add(posted), Now: w.now, Meter: workflows.Meter{
				AllocationID: terms.Lease.AllocationID, TenantID: terms.TenantID, AccountID: terms.AccountID, Currency: terms.Currency,
				RateMicrosPerHour: terms.RateMicrosPerHour, WindowSeconds: terms.WindowSeconds, Anchor: began, CorrelationID: "corr",
			}}
			if _, err := ledger.PostWindows(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		review := w.review(funds, principal)
		if !review.ZeroAt.Equal(began.Add(1000*time.Second)) || review.AvailableMicros != -1400*microsASecond {
			t.Errorf("with %s posted: %+v", posted, review)
		}
	}
	if late, off := w.count(`SELECT late_ms FROM funds_crossings WHERE rung = 'balance_depleted'`), w.count(`SELECT written_off_micros FROM funds_crossings WHERE rung = 'balance_depleted'`); late != 1_400_000 || off != int(1400*microsASecond) {
		t.Errorf("%d ms late, %d written off", late, off)
	}
}

// What somebody takes out of an account ends what runs then, and not before.
func TestADebitDoesNotReachBack(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", 10_000*microsASecond)
	funds := &activities.Funds{Pool: w.App, Now: time.Now}
	w.now = time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	w.inUse(principal, "k1")
	before := time.Now().UTC().Truncate(time.Millisecond)
	w.credit(principal, -9_000*microsASecond)
	review := w.review(funds, principal)
	if len(review.Releases) != 1 || review.ZeroAt.Before(before) || review.ZeroAt.After(time.Now()) {
		t.Errorf("debited at %s: %+v", before, review)
	}
}

// Nor does it hide that the money had ended while nobody could look: what ran on is written off, and not the tenant's.
func TestADebitDoesNotHideAnEndThatNobodySaw(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", 1_000*microsASecond)
	funds := &activities.Funds{Pool: w.App, Now: time.Now}
	w.now = time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	began := w.now
	w.inUse(principal, "k1")
	w.credit(principal, -400*microsASecond)
	w.credit(principal, -500*microsASecond)
	review := w.review(funds, principal)
	if len(review.Releases) != 1 || !review.ZeroAt.Equal(began.Add(1000*time.Second)) || !review.Releases[0].AskedAt.Equal(*review.ZeroAt) {
		t.Errorf("the money was used up at %s: %+v", began.Add(1000*time.Second), review)
	}
	if off := w.count(`SELECT written_off_micros / 1000000 FROM funds_crossings WHERE rung = 'balance_depleted'`); off < 2600*int(microsASecond/1_000_000) {
		t.Errorf("%d millions are written off", off)
	}
}

// hearing notes who is told and how.
type hearing struct {
	told   []string
	absent bool
}

func (h *hearing) SignalWorkflow(_ context.Context, workflowID, _, signal string, _ any) error {
	h.told = append(h.told, signal+" "+workflowID)
	if h.absent {
		return serviceerror.NewNotFound("no such workflow")
	}
	return nil
}

func (h *hearing) SignalWithStartWorkflow(_ context.Context, workflowID, signal string, _ any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	h.told = append(h.told, "start+"+signal+" "+workflowID)
	return nil, nil
}

func TestTellStartsAWatchOnlyOverWhatCostsMoney(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", 10_000*microsASecond)
	heard := &hearing{absent: true}
	funds := &activities.Funds{Pool: w.App, Now: func() time.Time { return w.now }, Cluster: heard}
	tell := func(account id.Account, want error, told string) {
		t.Helper()
		heard.told = nil
		_, err := funds.Tell(t.Context(), workflows.TellFundsIn{AccountID: account, Because: "a test"})
		if !errors.Is(err, want) || (told != "" && (len(heard.told) != 1 || heard.told[0] != told)) {
			t.Errorf("it answers %v and told %q, want %q", err, heard.told, told)
		}
	}
	watch := workflows.FundsWorkflowID(principal.AccountID)
	tell(newID[id.Account](), fault.AccountNotFound, "")
	tell(principal.AccountID, nil, "changed "+watch) // nobody is there, and that is fine
	w.tools.Funds = funds
	heard.told = nil
	w.inUse(principal, "k1")
	if len(heard.told) != 1 || heard.told[0] != "start+changed "+watch {
		t.Errorf("a meter that starts told %q", heard.told)
	}
	tell(principal.AccountID, nil, "start+changed "+watch)
}
