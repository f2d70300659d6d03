//go:build integration

package activities_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

func TestWindowsAreChargedOnceHoweverOftenTheyArePosted(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 1_000_000)
	meter := b.meter(owner, 3_599_999, 60, b.now)
	for attempt := range 3 {
		out, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, 5))
		want := exactCharge(meter, meter.Anchor.Add(5*time.Minute))
		if err != nil || out.ChargedMicros != want || !out.PostedTo.Equal(meter.Anchor.Add(5*time.Minute)) || b.balance(owner.AccountID) != 1_000_000-want {
			t.Fatalf("attempt %d: %+v, error %v, want a charge of %d", attempt, out, err, want)
		}
	}
	if n := b.count(`SELECT count(*) FROM ledger_entries WHERE kind = 'usage'`); n != 5 {
		t.Fatalf("%d windows stand, not 5", n)
	}
	if n := b.count(`SELECT count(*) FROM outbox WHERE subject = 'billing.usage_recorded' AND aggregate_id = $1
		AND jsonb_array_length(payload #> '{payload,entry_ids}') = 5 AND payload ->> 'event_id' = msg_id`, owner.AccountID); n != 1 {
		t.Fatalf("%d events tell of the posting, not one with its five entries", n)
	}
	if stats := b.ledger.Stats(); stats.Posted != 5 || stats.Repeated != 10 || stats.Conflicts != 0 {
		t.Fatalf("stats %+v", stats)
	}
}

func TestCatchUpPostsAllDueWindowsAndStopsAtTheCap(t *testing.T) {
	b := newBooks(t)
	b.setPolicy("billing.catch_up_max_windows", "2500")
	meter := b.meter(b.tenant("owner", 0), 7_777_777, 1, b.now)
	out, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, 4000))
	if err != nil || !out.PostedTo.Equal(meter.Anchor.Add(2500*time.Second)) {
		t.Fatalf("posted to %s, error %v", out.PostedTo, err)
	}
	out, err = b.ledger.PostWindows(t.Context(), windows(meter, 2500, 4000))
	if balance := b.balance(meter.AccountID); err != nil || !out.PostedTo.Equal(meter.Anchor.Add(4000*time.Second)) || balance != -exactCharge(meter, out.PostedTo) {
		t.Fatalf("posted to %s, the balance is %d, error %v", out.PostedTo, balance, err)
	}
}

func TestAWindowThatStandsOtherwiseAlarms(t *testing.T) {
	b := newBooks(t)
	meter := b.meter(b.tenant("owner", 0), 3_600_000, 60, b.now)
	if _, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, 2)); err != nil {
		t.Fatal(err)
	}
	dearer := meter
	dearer.RateMicrosPerHour *= 2
	_, err := b.ledger.PostWindows(t.Context(), windows(dearer, 0, 2))
	if !errors.Is(err, fault.LedgerConflict) || b.ledger.Stats().Conflicts != 1 || !b.log.has("alarm: a window stands") {
		t.Fatalf("error %v, stats %+v", err, b.ledger.Stats())
	}
	if sum := b.summed(meter.AccountID); sum != -exactCharge(meter, meter.Anchor.Add(2*time.Minute)) {
		t.Fatalf("the balance moved to %d", sum)
	}
}

func TestPostersShareStatementsAndDuplicatesChargeNothing(t *testing.T) {
	b := newBooks(t)
	const meters, rounds = 100, 3
	all := make([]workflows.Meter, meters)
	for i := range all {
		if i%4 == 0 {
			all[i] = b.meter(b.tenant(fmt.Sprintf("owner-%d", i), 0), 3_599_999, 60, b.now)
		} else {
			principal := all[i-i%4]
			owner := b.tenant(fmt.Sprintf("owner-%d", i-i%4), 0)
			all[i] = b.meter(owner, principal.RateMicrosPerHour+money.Micros(i), 60, b.now)
		}
	}
	for round := range int64(rounds) {
		var group errgroup.Group
		for i := range 2 * meters { // every posting twice, at once
			group.Go(func() error {
				meter := all[i%meters]
				out, err := b.ledger.PostWindows(t.Context(), windows(meter, round, round+1))
				if err == nil && !out.PostedTo.Equal(meter.Anchor.Add(time.Duration(round+1)*time.Minute)) {
					err = fmt.Errorf("posted to %s", out.PostedTo)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	stats := b.ledger.Stats()
	if stats.Posted != meters*rounds || stats.Repeated != meters*rounds || stats.Conflicts != 0 || stats.Statements > meters {
		t.Fatalf("stats %+v", stats)
	}
	expected := map[string]money.Micros{}
	for _, meter := range all {
		expected[string(meter.AccountID)] -= exactCharge(meter, meter.Anchor.Add(rounds*time.Minute))
	}
	for _, meter := range all {
		if want := expected[string(meter.AccountID)]; b.balance(meter.AccountID) != want || b.summed(meter.AccountID) != want {
			t.Fatalf("account %s holds %d, want %d", meter.AccountID, b.balance(meter.AccountID), want)
		}
	}
	t.Logf("%d windows in %d statements", stats.Posted, stats.Statements)
}

func TestAPoisonedPostingFailsAlone(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 0)
	const meters, poisoned = 60, 17
	all := make([]workflows.Meter, meters)
	for i := range all {
		all[i] = b.meter(owner, 3_600_000, 60, b.now)
	}
	all[poisoned].Anchor = all[poisoned].Anchor.Add(time.Second) // not where its meter began
	errs := make([]error, meters)
	var group errgroup.Group
	for i := range all {
		group.Go(func() error {
			_, errs[i] = b.ledger.PostWindows(t.Context(), windows(all[i], 0, 2))
			return nil
		})
	}
	_ = group.Wait()
	for i, err := range errs {
		if i == poisoned && !errors.Is(err, fault.LedgerConflict) {
			t.Errorf("the poisoned posting: error %v", err)
		}
		if i != poisoned && err != nil {
			t.Errorf("posting %d: error %v", i, err)
		}
	}
	if n := b.count(`SELECT count(*) FROM ledger_entries WHERE kind = 'usage'`); n != 2*(meters-1) {
		t.Errorf("%d windows stand", n)
	}
	if stats := b.ledger.Stats(); stats.Bisections == 0 || stats.Refused != 1 || !b.log.has("alarm: the database refuses a window") {
		t.Errorf("stats %+v", stats)
	}
}

func TestACallerStopsWaitingWithItsContext(t *testing.T) {
	b := newBooks(t)
	meter := b.meter(b.tenant("owner", 0), 3_600_000, 60, b.now)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.ledger.PostWindows(ctx, windows(meter, 0, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.ledger.PostWindows(ctx, windows(meter, 1, 2)); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	b.ledger.Close()
	if _, err := b.ledger.PostWindows(t.Context(), windows(meter, 1, 2)); !errors.Is(err, fault.ServiceUnavailable) {
		t.Fatalf("after Close: error %v", err)
	}
}

// Usage less credits is C(metered_to − metered_from) to the micro, whatever was posted before, however often it is
// settled, and no posting comes after.
func TestSettleEndIsExactAndFinal(t *testing.T) {
	b := newBooks(t)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		meter := b.meter(b.tenant(fmt.Sprintf("owner-%d", round), 0), money.Micros(random.Int64N(90_000_000_000)), 1+random.Int64N(90), b.now.Add(time.Duration(random.IntN(1000))*time.Millisecond))
		posted := random.Int64N(30)
		if posted > 0 {
			if _, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, posted)); err != nil {
				t.Fatal(err)
			}
		}
		window := time.Duration(meter.WindowSeconds) * time.Second
		to := meter.Anchor.Add(time.Duration(random.Int64N(int64(40*window)) / 1e6 * 1e6))
		if round%10 == 0 {
			to = meter.Anchor
		}
		want := exactCharge(meter, to)
		for attempt := range 2 {
			out, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: to})
			if err != nil || out.ChargedMicros-out.CreditedMicros != want || out.BalanceMicros != -want {
				t.Fatalf("round %d attempt %d: %+v, error %v, want %d", round, attempt, out, err, want)
			}
		}
		last := max(posted, int64(to.Sub(meter.Anchor)/window))
		_, err := b.ledger.PostWindows(t.Context(), windows(meter, last, last+3))
		if !errors.Is(err, fault.AllocationNotActive) {
			t.Fatalf("round %d: a posting after the settlement: error %v", round, err)
		}
		if sum := b.summed(meter.AccountID); sum != -want {
			t.Fatalf("round %d: the account holds %d, want %d", round, sum, -want)
		}
		_, err = b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: to.Add(time.Millisecond)})
		if !errors.Is(err, fault.LedgerConflict) {
			t.Fatalf("round %d: another end: error %v", round, err)
		}
	}
	if n := b.ledger.Stats().Conflicts; n != 40 {
		t.Fatalf("%d conflicts were counted, want only those of the other ends", n)
	}
}

func TestPostingAndSettlementAtOnceEndExact(t *testing.T) {
	b := newBooks(t)
	for round := range 6 {
		meter := b.meter(b.tenant(fmt.Sprintf("owner-%d", round), 0), 3_599_999, 60, b.now)
		to := meter.Anchor.Add(150*time.Second + 7*time.Millisecond)
		var group errgroup.Group
		for n := range int64(5) {
			group.Go(func() error {
				_, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, n+1))
				if errors.Is(err, fault.AllocationNotActive) || (err != nil && strings.Contains(err.Error(), "ledger_usage_chain")) {
					return nil
				}
				return err
			})
		}
		group.Go(func() error {
			_, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: to})
			return err
		})
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if sum, want := b.summed(meter.AccountID), -exactCharge(meter, to); sum != want {
			t.Fatalf("round %d: the account holds %d, want %d", round, sum, want)
		}
	}
}

func TestAnOutageIsForgivenOnceAndWithinPolicy(t *testing.T) {
	b := newBooks(t)
	b.setPolicy("billing.outage_forgiveness_seconds", "90")
	meter := b.meter(b.tenant("owner", 0), 3_600_000_000, 60, time.Now().UTC().Truncate(time.Millisecond).Add(-time.Minute))
	onTime := windows(meter, 0, 1)
	onTime.DueAt = onTime.To
	if out, err := b.ledger.PostWindows(t.Context(), onTime); err != nil || out.ForgivenMicros != 0 {
		t.Fatalf("on time: %+v, error %v", out, err)
	}
	late := windows(meter, 1, 5)
	late.DueAt = meter.Anchor.Add(2 * time.Minute)
	const forgiven = 90 * 1_000_000
	for attempt := range 2 {
		out, err := b.ledger.PostWindows(t.Context(), late)
		if err != nil || out.ForgivenMicros != forgiven || out.ChargedMicros != 240_000_000 || b.balance(meter.AccountID) != -300_000_000+forgiven {
			t.Fatalf("attempt %d: %+v, error %v", attempt, out, err)
		}
	}
	// Release was asked for in the middle of the forgiven time: what lies beyond is given back once, not twice.
	out, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: meter.Anchor.Add(150 * time.Second)})
	if err != nil || out.ChargedMicros-out.CreditedMicros != 150_000_000-30_000_000 {
		t.Fatalf("settled %+v, error %v", out, err)
	}
	if out.BalanceMicros != b.summed(meter.AccountID) {
		t.Fatalf("the balance is %d, the entries add up to %d", out.BalanceMicros, b.summed(meter.AccountID))
	}
}
