package billing

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Activity is what the entries of an account of one kind, allocation and day add up to. AmountMicros is signed as the account
// sees it: positive is money in. Day is the UTC day on which the entries' period began, zero for entries without one.
type Activity struct {
	Kind         string
	AllocationID id.Allocation
	Day          time.Time
	AmountMicros money.Micros
	// MeteredMS is the time that usage entries charge, in milliseconds.
	MeteredMS int64
	Entries   int64
}

// KindUsage is the kind of an entry that charges a window.
const KindUsage = "usage"

// UsageLine is what one allocation used on one day, or what a group of such lines adds up to. UsageMicros was charged,
// CreditMicros given back of charges; both are positive.
type UsageLine struct {
	Day          time.Time
	AllocationID id.Allocation
	ProjectID    id.Project
	SKU          id.SKU
	MeteredMS    int64
	UsageMicros  money.Micros
	CreditMicros money.Micros
	Entries      int64
}

// NetMicros is what remains charged.
func (l UsageLine) NetMicros() money.Micros { return l.UsageMicros - l.CreditMicros }

// Held is what an allocation is beside its id, as usage is grouped by it.
type Held struct {
	ProjectID id.Project
	SKU       id.SKU
}

// Usage is the part of the activity that hangs on allocations, a line an allocation and day, in that order. An allocation that
// held does not know keeps empty fields rather than fall out of the sum.
func Usage(activity []Activity, held map[id.Allocation]Held) []UsageLine {
	type place struct {
		day        time.Time
		allocation id.Allocation
	}
	lines := map[place]*UsageLine{}
	for _, one := range activity {
		if one.AllocationID == "" {
			continue
		}
		at := place{one.Day, one.AllocationID}
		line := lines[at]
		if line == nil {
			about := held[one.AllocationID]
			line = &UsageLine{Day: one.Day, AllocationID: one.AllocationID, ProjectID: about.ProjectID, SKU: about.SKU}
			lines[at] = line
		}
		line.Entries += one.Entries
		if one.Kind == KindUsage {
			line.UsageMicros -= one.AmountMicros
			line.MeteredMS += one.MeteredMS
		} else {
			line.CreditMicros += one.AmountMicros
		}
	}
	sorted := make([]UsageLine, 0, len(lines))
	for _, line := range lines {
		sorted = append(sorted, *line)
	}
	slices.SortFunc(sorted, compareLines)
	return sorted
}

func compareLines(a, b UsageLine) int {
	return cmp.Or(a.Day.Compare(b.Day), cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.SKU, b.SKU), cmp.Compare(a.AllocationID, b.AllocationID))
}

// Grouping says which fields keep lines of usage apart; the others are left empty.
type Grouping struct{ Day, Project, SKU, Allocation bool }

// Group adds up the lines that the grouping does not keep apart.
func Group(lines []UsageLine, by Grouping) []UsageLine {
	type place struct {
		day        time.Time
		project    id.Project
		sku        id.SKU
		allocation id.Allocation
	}
	groups := map[place]UsageLine{}
	for _, line := range lines {
		var at place
		if by.Day {
			at.day = line.Day
		}
		if by.Project {
			at.project = line.ProjectID
		}
		if by.SKU {
			at.sku = line.SKU
		}
		if by.Allocation {
			at.allocation = line.AllocationID
		}
		group := groups[at]
		group.Day, group.ProjectID, group.SKU, group.AllocationID = at.day, at.project, at.sku, at.allocation
		group.MeteredMS += line.MeteredMS
		group.UsageMicros += line.UsageMicros
		group.CreditMicros += line.CreditMicros
		group.Entries += line.Entries
		groups[at] = group
	}
	sorted := make([]UsageLine, 0, len(groups))
	for _, group := range groups {
		sorted = append(sorted, group)
	}
	slices.SortFunc(sorted, compareLines)
	return sorted
}

// Movement is what the entries of one kind add up to, signed as the account sees it. OfAllocations says that they hang on
// allocations, so that the lines of usage hold them too.
type Movement struct {
	Kind          string
	OfAllocations bool
	AmountMicros  money.Micros
	Entries       int64
}

// Seller is the legal entity that a statement names; any field may be empty. Address may have several lines.
type Seller struct{ LegalName, Address, TaxNumber string }

// Tax is a tax that prices contain, at so many hundredths of a percent; none at zero.
type Tax struct {
	Name        string
	BasisPoints int64
}

const basisPoints = 10_000

// Contained is the part of a gross amount that the tax makes up, rounded down; none of what is not positive.
func (t Tax) Contained(gross money.Micros) (money.Micros, error) {
	if gross <= 0 || t.BasisPoints <= 0 {
		return 0, nil
	}
	part, err := money.MulDivFloor(int64(gross), t.BasisPoints, basisPoints+t.BasisPoints)
	return money.Micros(part), err
}

// Statement is what happened to an account in [From, To): every entry that was posted then, and nothing else.
type Statement struct {
	AccountID     id.Account
	TenantID      id.Tenant
	TenantName    string
	Currency      string
	Seller        Seller
	Tax           Tax
	From, To      time.Time
	OpeningMicros money.Micros
	ClosingMicros money.Micros
	Movements     []Movement
	Usage         []UsageLine
	// TaxMicros is the part of the usage, less what was given back of it, that the tax makes up.
	TaxMicros money.Micros
	// Final says that no entry can be added to it any more.
	Final bool
}

// NewStatement makes a statement of what the account's entries of the time add up to. It answers an error when the figures do
// not add up: opening balance and movements to the closing balance, and the lines of usage to the movements of allocations.
func NewStatement(s Statement, activity []Activity, held map[id.Allocation]Held) (Statement, error) {
	s.Usage = Usage(activity, held)
	kinds := map[string]*Movement{}
	var moved, ofAllocations, net money.Micros
	for _, one := range activity {
		movement := kinds[one.Kind]
		if movement == nil {
			movement = &Movement{Kind: one.Kind, OfAllocations: one.AllocationID != ""}
			kinds[one.Kind] = movement
		}
		movement.AmountMicros += one.AmountMicros
		movement.Entries += one.Entries
		moved += one.AmountMicros
		if one.AllocationID != "" {
			ofAllocations += one.AmountMicros
		}
	}
	for _, movement := range kinds {
		s.Movements = append(s.Movements, *movement)
	}
	slices.SortFunc(s.Movements, func(a, b Movement) int { return cmp.Compare(a.Kind, b.Kind) })
	for _, line := range s.Usage {
		net += line.NetMicros()
	}
	if s.OpeningMicros+moved != s.ClosingMicros || net != -ofAllocations {
		return s, fmt.Errorf("the statement of %s from %s does not add up: %d + %d ≠ %d, or usage %d ≠ %d",
			s.AccountID, s.From.Format(time.DateOnly), s.OpeningMicros, moved, s.ClosingMicros, net, -ofAllocations)
	}
	var err error
	s.TaxMicros, err = s.Tax.Contained(net)
	return s, err
}

// NetUsageMicros is what was charged for time, less what was given back of it.
func (s Statement) NetUsageMicros() (net money.Micros) {
	for _, line := range s.Usage {
		net += line.NetMicros()
	}
	return net
}

// Others are the movements that the lines of usage do not hold.
func (s Statement) Others() []Movement {
	return slices.DeleteFunc(slices.Clone(s.Movements), func(m Movement) bool { return m.OfAllocations })
}
