package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Kinds of ledger entries that hang on an allocation.
const (
	kindUsage        = "usage"
	kindUsageCredit  = "usage_credit"
	kindOutageCredit = "outage_credit"
	kindSuspension   = "suspension_credit"
)

// Finding is one thing that was recomputed: what was checked, and how it does not hold (nil where it does).
type Finding struct {
	Checked string
	Err     error
}

// Examine recomputes what a bundle claims, from the bundle alone. Every finding is answered, also those that hold.
func Examine(b Bundle) []Finding {
	return []Finding{
		{"the form of the bundle", b.form()},
		{"what admission pinned against the price", b.pins()},
		{fmt.Sprintf("%d transitions, each by an arrow that exists", len(b.Transitions)), b.history()},
		{"every entry moves the allocation's currency from or to its account", b.accounts()},
		{"the windows: no gap, no overlap, each at its price to the micro", b.windows()},
		{"the totals, and usage less credits against the charge of the metered time", b.money()},
		{"who had custody of the node, and on what it was handed back", b.custody()},
	}
}

func (b Bundle) form() error {
	switch {
	case b.Version != Version:
		return fmt.Errorf("the bundle has version %d, and this examines %d", b.Version, Version)
	case !b.Allocation.State.Valid():
		return fmt.Errorf("%q is no state", b.Allocation.State)
	case b.Final != b.Allocation.State.Terminal():
		return fmt.Errorf("final is %v and the allocation is %s", b.Final, b.Allocation.State)
	case b.Final && b.Allocation.EndedAt == nil:
		return errors.New("the allocation ended at no time")
	}
	return nil
}

func (b Bundle) pins() error {
	a, p := b.Allocation, b.Price
	if a.PriceID != p.ID || a.SKU != p.SKU || a.Currency != p.Currency || a.RateMicrosPerHour != p.RateMicrosPerHour {
		return fmt.Errorf("the allocation pins %s at %d micros of %s an hour for %s, and the price is %s, %d, %s, %s",
			a.PriceID, a.RateMicrosPerHour, a.Currency, a.SKU, p.ID, p.RateMicrosPerHour, p.Currency, p.SKU)
	}
	if time.Time(p.ValidFrom).After(time.Time(a.RequestedAt)) {
		return errors.New("the price was not valid yet when the allocation was asked for")
	}
	return nil
}

func (b Bundle) history() error {
	var stands allocation.State
	for i, arrow := range b.Transitions {
		first := i == 0 && arrow.FromState == "" && arrow.ToState == allocation.Requested
		switch {
		case arrow.Version != int64(i)+1:
			return fmt.Errorf("the transition after version %d is %d", i, arrow.Version)
		case i == 0 && !first:
			return fmt.Errorf("it begins as %s", arrow.ToState)
		case i > 0 && (arrow.FromState != stands || !stands.CanBecome(arrow.ToState)):
			return fmt.Errorf("version %d goes from %s to %s, and it stood at %s", arrow.Version, arrow.FromState, arrow.ToState, stands)
		}
		stands = arrow.ToState
	}
	if stands != b.Allocation.State {
		return fmt.Errorf("the transitions lead to %q and the allocation is %s", stands, b.Allocation.State)
	}
	return nil
}

func (b Bundle) accounts() error {
	for _, entry := range b.Ledger {
		tenants := entry.CreditAccountID
		if entry.Kind == kindUsage {
			tenants = entry.DebitAccountID
		}
		switch {
		case !slices.Contains([]string{kindUsage, kindUsageCredit, kindOutageCredit, kindSuspension}, entry.Kind):
			return fmt.Errorf("entry %d is of kind %q", entry.ID, entry.Kind)
		case entry.Currency != b.Allocation.Currency:
			return fmt.Errorf("entry %d is in %s", entry.ID, entry.Currency)
		case tenants != b.Allocation.AccountID || entry.DebitAccountID == entry.CreditAccountID:
			return fmt.Errorf("entry %d moves from %s to %s", entry.ID, entry.DebitAccountID, entry.CreditAccountID)
		case entry.AmountMicros < 0:
			return fmt.Errorf("entry %d moves %d micros", entry.ID, entry.AmountMicros)
		case entry.PeriodStart == nil || entry.PeriodEnd == nil:
			return fmt.Errorf("entry %d is for no time", entry.ID)
		}
	}
	return nil
}

// usage lists the windows in the order of their time.
func (b Bundle) usage() []Entry {
	var windows []Entry
	for _, entry := range b.Ledger {
		if entry.Kind == kindUsage && entry.PeriodStart != nil && entry.PeriodEnd != nil {
			windows = append(windows, entry)
		}
	}
	slices.SortFunc(windows, func(x, y Entry) int { return time.Time(*x.PeriodStart).Compare(time.Time(*y.PeriodStart)) })
	return windows
}

func (b Bundle) windows() error {
	windows := b.usage()
	if len(windows) == 0 {
		return nil
	}
	if b.Allocation.MeteredFrom == nil {
		return errors.New("there are windows and the meter never ran")
	}
	anchor := time.Time(*b.Allocation.MeteredFrom)
	reached := anchor
	for _, window := range windows {
		period := billing.Period{Start: time.Time(*window.PeriodStart), End: time.Time(*window.PeriodEnd)}
		if !period.Start.Equal(reached) || !period.End.After(period.Start) {
			return fmt.Errorf("entry %d is for %s to %s, and %s was reached", window.ID, period.Start, period.End, reached)
		}
		amount, err := period.Amount(b.Allocation.RateMicrosPerHour, anchor)
		if err != nil {
			return err
		}
		if amount != window.AmountMicros {
			return fmt.Errorf("entry %d charges %d micros for what costs %d", window.ID, window.AmountMicros, amount)
		}
		reached = period.End
	}
	return nil
}

func (b Bundle) money() error {
	sum := map[string]money.Micros{}
	for _, entry := range b.Ledger {
		sum[entry.Kind] += entry.AmountMicros
	}
	charge, err := b.charge()
	if err != nil {
		return err
	}
	totals := Totals{UsageMicros: sum[kindUsage], UsageCreditMicros: sum[kindUsageCredit], ForgivenMicros: sum[kindOutageCredit], SuspendedMicros: sum[kindSuspension], ChargeMicros: charge}
	if totals != b.Totals {
		return fmt.Errorf("the entries and the meter make %+v, and the bundle says %+v", totals, b.Totals)
	}
	if billed := totals.UsageMicros - totals.UsageCreditMicros; b.Final && billed != charge {
		return fmt.Errorf("billed are %d micros for a charge of %d", billed, charge)
	}
	return nil
}

// charge is C(metered time): to the end of the meter, or while that runs, to the end of the last window.
func (b Bundle) charge() (money.Micros, error) {
	from, to := b.Allocation.MeteredFrom, b.Allocation.MeteredTo
	switch windows := b.usage(); {
	case from == nil && to != nil:
		return 0, errors.New("the meter ended and never began")
	case from == nil:
		return 0, nil
	case b.Final && to == nil:
		return 0, errors.New("the allocation ended and its meter did not")
	case to == nil && len(windows) == 0:
		return 0, nil
	case to == nil:
		to = windows[len(windows)-1].PeriodEnd
	}
	if time.Time(*to).Before(time.Time(*from)) {
		return 0, errors.New("the meter ended before it began")
	}
	return billing.Charge(b.Allocation.RateMicrosPerHour, time.Time(*to).Sub(time.Time(*from)))
}

func (b Bundle) custody() error {
	leases := slices.SortedFunc(slices.Values(b.Leases), func(x, y Lease) int { return cmp.Compare(x.Ordinal, y.Ordinal) })
	held := func(node id.Node, generation int64) *Lease {
		for i := range leases {
			if leases[i].NodeID == node && leases[i].Generation == generation {
				return &leases[i]
			}
		}
		return nil
	}
	for i, lease := range leases {
		if lease.Ordinal != i+1 {
			return fmt.Errorf("the claim after %d is %d", i, lease.Ordinal)
		}
	}
	if b.Allocation.NodeID != "" && held(b.Allocation.NodeID, b.Allocation.Generation) == nil {
		return fmt.Errorf("nothing claims %s at generation %d", b.Allocation.NodeID, b.Allocation.Generation)
	}
	for _, certificate := range b.NodeCertificates {
		if !slices.ContainsFunc(leases, func(lease Lease) bool { return lease.NodeID == certificate.NodeID }) {
			return fmt.Errorf("the certificate %s is of a node that was never claimed", certificate.Serial)
		}
	}
	if b.Certificate == nil {
		if b.Allocation.State == allocation.Released && b.Allocation.MeteredFrom != nil {
			return errors.New("the allocation was released without a certificate")
		}
		return nil
	}
	lease := held(b.Certificate.NodeID, b.Certificate.Generation)
	switch {
	case lease == nil:
		return fmt.Errorf("the certificate is for %s at generation %d, which nothing claims", b.Certificate.NodeID, b.Certificate.Generation)
	case b.Certificate.Wiped && (lease.ClosedAt == nil || lease.ClosedBy == ""):
		return fmt.Errorf("the certificate says that %s was wiped, and its custody is open", lease.NodeID)
	}
	return nil
}
