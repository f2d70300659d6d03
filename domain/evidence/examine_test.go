package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/domain/evidence/evidencetest"
)

func TestABundleThatHoldsHolds(t *testing.T) {
	for _, finding := range evidence.Examine(evidencetest.Bundle()) {
		if finding.Err != nil {
			t.Errorf("%s: %v", finding.Checked, finding.Err)
		}
	}
}

// Whoever holds the key can sign a lie; what can be recomputed contradicts it.
func TestALieThatWasSignedIsFound(t *testing.T) {
	later := func(at *evidence.Instant, by time.Duration) {
		*at = evidence.Instant(time.Time(*at).Add(by))
	}
	for name, test := range map[string]struct {
		tell func(*evidence.Bundle)
		says string
	}{
		"another version":      {func(b *evidence.Bundle) { b.Version = 2 }, "version 2"},
		"an end that was none": {func(b *evidence.Bundle) { b.Final = false }, "final"},
		"no time of its end":   {func(b *evidence.Bundle) { b.Allocation.EndedAt = nil }, "no time"},
		"another rate":         {func(b *evidence.Bundle) { b.Allocation.RateMicrosPerHour++ }, "pins"},
		"another price":        {func(b *evidence.Bundle) { b.Price.ID = "price_other" }, "pins"},
		"another rate in both": {func(b *evidence.Bundle) {
			b.Allocation.RateMicrosPerHour += 3_600_000
			b.Price.RateMicrosPerHour += 3_600_000
		}, "what costs"},
		"a price of tomorrow":          {func(b *evidence.Bundle) { later(&b.Price.ValidFrom, 365*24*time.Hour) }, "not valid yet"},
		"a transition less":            {func(b *evidence.Bundle) { b.Transitions = b.Transitions[:4] }, "lead to"},
		"a transition in between less": {func(b *evidence.Bundle) { b.Transitions = append(b.Transitions[:2:2], b.Transitions[3:]...) }, "after version 2"},
		"an arrow that there is not":   {func(b *evidence.Bundle) { b.Transitions[3].ToState = "failed" }, "goes from"},
		"another state":                {func(b *evidence.Bundle) { b.Allocation.State = "failed" }, "lead to"},
		"a window less":                {func(b *evidence.Bundle) { b.Ledger = append(b.Ledger[:1:1], b.Ledger[2:]...) }, "was reached"},
		"a window twice":               {func(b *evidence.Bundle) { b.Ledger = append(b.Ledger, b.Ledger[0]) }, "was reached"},
		"a micro more for a window":    {func(b *evidence.Bundle) { b.Ledger[1].AmountMicros++ }, "what costs"},
		"a window that ends later":     {func(b *evidence.Bundle) { later(b.Ledger[2].PeriodEnd, time.Millisecond) }, "what costs"},
		"another account":              {func(b *evidence.Bundle) { b.Ledger[0].DebitAccountID = "acct_other" }, "moves from"},
		"another currency":             {func(b *evidence.Bundle) { b.Ledger[0].Currency = "eur" }, "is in eur"},
		"another kind":                 {func(b *evidence.Bundle) { b.Ledger[3].Kind = "gift" }, "of kind"},
		"an amount below zero":         {func(b *evidence.Bundle) { b.Ledger[4].AmountMicros = -1 }, "moves -1"},
		"an entry for no time":         {func(b *evidence.Bundle) { b.Ledger[0].PeriodEnd = nil }, "no time"},
		"a credit less":                {func(b *evidence.Bundle) { b.Ledger = append(b.Ledger[:3:3], b.Ledger[4:]...) }, "the bundle says"},
		"a credit less, in the totals too": {func(b *evidence.Bundle) {
			b.Ledger = append(b.Ledger[:3:3], b.Ledger[4:]...)
			b.Totals.UsageCreditMicros = 0
		}, "billed are 180000"},
		"another total":                  {func(b *evidence.Bundle) { b.Totals.ChargeMicros++ }, "the bundle says"},
		"a meter that stopped later":     {func(b *evidence.Bundle) { later(b.Allocation.MeteredTo, time.Second) }, "the bundle says"},
		"a meter that never began":       {func(b *evidence.Bundle) { b.Allocation.MeteredFrom = nil }, "never ran"},
		"a meter that ended too early":   {func(b *evidence.Bundle) { later(b.Allocation.MeteredTo, -24*time.Hour) }, "before it began"},
		"another node":                   {func(b *evidence.Bundle) { b.Allocation.NodeID = "node_other" }, "nothing claims"},
		"another generation":             {func(b *evidence.Bundle) { b.Certificate.Generation++ }, "nothing claims"},
		"a custody less":                 {func(b *evidence.Bundle) { b.Leases = nil }, "nothing claims"},
		"a claim that is missing":        {func(b *evidence.Bundle) { b.Leases[0].Ordinal = 2 }, "after 0 is 2"},
		"wiped and never handed back":    {func(b *evidence.Bundle) { b.Leases[0].ClosedAt, b.Leases[0].ClosedBy = nil, "" }, "custody is open"},
		"released without a certificate": {func(b *evidence.Bundle) { b.Certificate = nil }, "without a certificate"},
		"a certificate of another node":  {func(b *evidence.Bundle) { b.NodeCertificates[0].NodeID = "node_other" }, "never claimed"},
	} {
		bundle := evidencetest.Bundle()
		test.tell(&bundle)
		var found []string
		for _, finding := range evidence.Examine(bundle) {
			if finding.Err != nil {
				found = append(found, finding.Err.Error())
			}
		}
		if !strings.Contains(strings.Join(found, "; "), test.says) {
			t.Errorf("%s: found %q, which does not say %q", name, found, test.says)
		}
	}
}

func TestARunningAllocationIsNotFinal(t *testing.T) {
	running := evidencetest.Bundle()
	running.Final, running.Certificate = false, nil
	running.Allocation.State, running.Allocation.EndedAt, running.Allocation.MeteredTo = "active", nil, nil
	running.Transitions, running.Ledger = running.Transitions[:3], running.Ledger[:2]
	running.Totals = evidence.Totals{UsageMicros: 120_000, ChargeMicros: 120_000}
	for _, finding := range evidence.Examine(running) {
		if finding.Err != nil {
			t.Errorf("%s: %v", finding.Checked, finding.Err)
		}
	}
}
