package billing_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

var march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// randomActivity is a month of somebody with allocations of several projects, and what it adds up to.
func randomActivity(random *rand.Rand) (activity []billing.Activity, held map[id.Allocation]billing.Held, moved money.Micros) {
	held = map[id.Allocation]billing.Held{}
	for n := range 1 + random.IntN(20) {
		allocation := id.Allocation(fmt.Sprintf("alloc_%d", n))
		held[allocation] = billing.Held{ProjectID: id.Project(fmt.Sprintf("proj_%d", n%3)), SKU: id.SKU([]string{"h100-8x", "l40s-4x"}[n%2])}
		for day := range 1 + random.IntN(5) {
			at := march.AddDate(0, 0, day)
			entries := 1 + random.Int64N(1440)
			activity = append(activity, billing.Activity{Kind: billing.KindUsage, AllocationID: allocation, Day: at,
				AmountMicros: -money.Micros(random.Int64N(1 << 40)), MeteredMS: entries * 60_000, Entries: entries})
			if random.IntN(3) == 0 {
				activity = append(activity, billing.Activity{Kind: "usage_credit", AllocationID: allocation, Day: at, AmountMicros: money.Micros(random.Int64N(1 << 30)), Entries: 1})
			}
		}
	}
	activity = append(activity, billing.Activity{Kind: "adjustment_credit", AmountMicros: money.Micros(random.Int64N(1 << 40)), Entries: 2})
	for _, one := range activity {
		moved += one.AmountMicros
	}
	random.Shuffle(len(activity), func(i, j int) { activity[i], activity[j] = activity[j], activity[i] })
	return activity, held, moved
}

// However a month's entries lie, every way of grouping them adds up to the same, and to the difference of the balances.
func TestAStatementAddsUpHoweverItIsGrouped(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	for range 500 {
		activity, held, moved := randomActivity(random)
		opening := money.Micros(random.Int64N(1<<40) - 1<<39)
		statement, err := billing.NewStatement(billing.Statement{AccountID: "acct_a", From: march, OpeningMicros: opening, ClosingMicros: opening + moved,
			Tax: billing.Tax{Name: "VAT", BasisPoints: random.Int64N(3000)}}, activity, held)
		if err != nil {
			t.Fatal(err)
		}
		want := statement.NetUsageMicros()
		for _, by := range []billing.Grouping{{}, {Day: true}, {Project: true}, {SKU: true}, {Allocation: true}, {Day: true, Project: true, SKU: true, Allocation: true}} {
			var net money.Micros
			var entries int64
			for _, line := range billing.Group(statement.Usage, by) {
				net += line.NetMicros()
				entries += line.Entries
			}
			if net != want || entries == 0 {
				t.Fatalf("grouped by %+v the usage is %d in %d entries, not %d", by, net, entries, want)
			}
		}
		others := money.Micros(0)
		for _, movement := range statement.Others() {
			others += movement.AmountMicros
		}
		if statement.OpeningMicros-want+others != statement.ClosingMicros {
			t.Fatalf("%d − %d + %d ≠ %d", statement.OpeningMicros, want, others, statement.ClosingMicros)
		}
		if gross, tax := want, statement.TaxMicros; gross > 0 && (tax < 0 || tax >= gross) {
			t.Fatalf("the tax of %d is %d", gross, tax)
		}
	}
}

func TestAStatementThatDoesNotAddUpIsAnError(t *testing.T) {
	activity := []billing.Activity{{Kind: billing.KindUsage, AllocationID: "alloc_a", Day: march, AmountMicros: -5, MeteredMS: 1, Entries: 1}}
	if _, err := billing.NewStatement(billing.Statement{OpeningMicros: 10, ClosingMicros: 6, From: march}, activity, nil); err == nil {
		t.Error("10 − 5 = 6 is believed")
	}
	statement, err := billing.NewStatement(billing.Statement{OpeningMicros: 10, ClosingMicros: 5, From: march}, activity, nil)
	if err != nil || len(statement.Usage) != 1 || statement.Usage[0].NetMicros() != 5 {
		t.Errorf("an allocation that nobody knows makes %+v, %v", statement.Usage, err)
	}
}

func TestTheTaxThatAPriceContains(t *testing.T) {
	for _, c := range []struct {
		gross, want money.Micros
		basisPoints int64
	}{{120, 20, 2000}, {119, 19, 2000}, {100, 0, 0}, {-100, 0, 2000}, {0, 0, 2000}, {money.MaxSafe, 1_501_199_875_790_165, 2000}} {
		if got, err := (billing.Tax{BasisPoints: c.basisPoints}).Contained(c.gross); err != nil || got != c.want {
			t.Errorf("the tax at %d in %d is %d, %v, not %d", c.basisPoints, c.gross, got, err, c.want)
		}
	}
}
