// Package allocation says what an allocation is: its states, the arrows between them and the rules
// that need no clock and no database. It imports the standard library and sibling leaves of domain.
package allocation

import (
	"slices"
	"time"
)

// State is one of the seven values of SPEC §2; the SQL check, the contract's enum and docs/flows/allocation.md
// hold the same list, and a test compares them.
type State string

const (
	Requested     State = "requested"
	Provisioning  State = "provisioning"
	Active        State = "active"
	Releasing     State = "releasing"
	Released      State = "released"
	Failed        State = "failed"
	ReleaseFailed State = "release_failed"
)

// States lists every state in the order of an allocation's life.
func States() []State {
	return []State{Requested, Provisioning, Active, Releasing, Released, Failed, ReleaseFailed}
}

var arrows = map[State][]State{
	Requested:     {Provisioning, Failed, Releasing},
	Provisioning:  {Active, Failed, Releasing},
	Active:        {Releasing},
	Releasing:     {Released, ReleaseFailed},
	ReleaseFailed: {Releasing},
	Released:      {},
	Failed:        {},
}

// Next lists the states that may follow s, none for a terminal state.
func (s State) Next() []State { return slices.Clone(arrows[s]) }

// CanBecome says whether the arrow s → next exists.
func (s State) CanBecome(next State) bool { return slices.Contains(arrows[s], next) }

// Terminal says that nothing more can happen: released or failed.
func (s State) Terminal() bool { return s == Released || s == Failed }

// Valid says whether s is one of the seven states.
func (s State) Valid() bool { _, known := arrows[s]; return known }

// CountsAgainstLimit says whether an allocation in this state uses up one of its user's slots:
// release_failed does not, because its owner can do nothing about a node that will not be wiped.
func (s State) CountsAgainstLimit() bool { return !s.Terminal() && s != ReleaseFailed }

// ReleaseCause says who asked for a release.
type ReleaseCause string

const (
	CauseTenant ReleaseCause = "tenant"
	CauseAdmin  ReleaseCause = "admin"
	CauseFunds  ReleaseCause = "funds"
	// CauseLimit is a spending limit that the tenant set: the allocation's own, or its project's budget.
	CauseLimit ReleaseCause = "limit"
	// CauseProvisioning is the workflow itself, compensating for a node it could not make usable.
	CauseProvisioning ReleaseCause = "provisioning"
)

// MeterEnd is the instant at which the meter stops: when release was asked for, but never before the
// meter started and never after now. The result is truncated to the millisecond, in UTC.
func MeterEnd(askedAt, meteredFrom, now time.Time) time.Time {
	end := askedAt
	if end.After(now) {
		end = now
	}
	if end.Before(meteredFrom) {
		end = meteredFrom
	}
	return end.UTC().Truncate(time.Millisecond)
}
