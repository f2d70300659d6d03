// Package evidence is what can be proven afterwards of an allocation: who held which node when, what was metered and what it
// cost, and how the node was handed back. Examine recomputes what a bundle claims from the bundle alone, so that somebody who
// trusts nobody but a public key can check it. Standard library and domain leaves; signing is internal/evidence's.
package evidence

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Version is that of the bundle's form; Examine refuses another.
const Version = 1

// Instant is a time in UTC with milliseconds, written with all three digits.
type Instant time.Time

const instantLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes the instant.
func (i Instant) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Time(i).UTC().Format(instantLayout) + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else.
func (i *Instant) UnmarshalJSON(text []byte) error {
	var plain string
	if err := json.Unmarshal(text, &plain); err != nil {
		return fmt.Errorf("an instant: %w", err)
	}
	at, err := time.Parse(instantLayout, plain)
	if err != nil {
		return fmt.Errorf("an instant: %w", err)
	}
	*i = Instant(at)
	return nil
}

// Maybe is an instant that may be absent.
func Maybe(at *time.Time) *Instant {
	if at == nil {
		return nil
	}
	instant := Instant(*at)
	return &instant
}

// Bundle is everything that is proven of one allocation. Amounts are micros of its currency; it holds ids and no names of people.
type Bundle struct {
	Version  int     `json:"version"`
	IssuedAt Instant `json:"issued_at"`
	// Final says that nothing more can happen to the allocation.
	Final            bool              `json:"final"`
	Allocation       Allocation        `json:"allocation"`
	Price            Price             `json:"price"`
	Transitions      []Transition      `json:"transitions"`
	Ledger           []Entry           `json:"ledger"`
	Totals           Totals            `json:"totals"`
	Leases           []Lease           `json:"leases"`
	Certificate      *Certificate      `json:"certificate,omitempty"`
	NodeCertificates []NodeCertificate `json:"node_certificates"`
	Audit            []AuditRow        `json:"audit"`
}

// Allocation is what was asked for and admitted, with what admission pinned.
type Allocation struct {
	ID                   id.Allocation    `json:"id"`
	TenantID             id.Tenant        `json:"tenant_id"`
	ProjectID            id.Project       `json:"project_id"`
	UserID               id.User          `json:"user_id"`
	AccountID            id.Account       `json:"account_id"`
	SKU                  id.SKU           `json:"sku"`
	Currency             string           `json:"currency"`
	PriceID              id.Price         `json:"price_id"`
	RateMicrosPerHour    money.Micros     `json:"rate_micros_per_hour"`
	WindowSeconds        int64            `json:"window_seconds"`
	WindowsPerSettlement int64            `json:"windows_per_settlement"`
	IsolationModel       string           `json:"isolation_model"`
	RuntimeMode          string           `json:"runtime_mode"`
	State                allocation.State `json:"state"`
	NodeID               id.Node          `json:"node_id,omitempty"`
	Generation           int64            `json:"generation,omitempty"`
	RequestedAt          Instant          `json:"requested_at"`
	MeteredFrom          *Instant         `json:"metered_from,omitempty"`
	MeteredTo            *Instant         `json:"metered_to,omitempty"`
	EndedAt              *Instant         `json:"ended_at,omitempty"`
	ReleaseCause         string           `json:"release_cause,omitempty"`
	FailureCode          string           `json:"failure_code,omitempty"`
	FailureMessage       string           `json:"failure_message,omitempty"`
	CorrelationID        string           `json:"correlation_id"`
}

// Price is the price row that admission pinned.
type Price struct {
	ID                id.Price     `json:"id"`
	SKU               id.SKU       `json:"sku"`
	Currency          string       `json:"currency"`
	RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
	ValidFrom         Instant      `json:"valid_from"`
}

// Transition is one change of state; FromState is empty for the first.
type Transition struct {
	Version       int64            `json:"version"`
	FromState     allocation.State `json:"from_state,omitempty"`
	ToState       allocation.State `json:"to_state"`
	At            Instant          `json:"at"`
	ActorID       string           `json:"actor_id"`
	ActorRole     string           `json:"actor_role"`
	Reason        string           `json:"reason,omitempty"`
	NodeID        id.Node          `json:"node_id,omitempty"`
	CorrelationID string           `json:"correlation_id"`
}

// Entry is one transfer of the ledger.
type Entry struct {
	ID              int64        `json:"id"`
	Kind            string       `json:"kind"`
	DebitAccountID  id.Account   `json:"debit_account_id"`
	CreditAccountID id.Account   `json:"credit_account_id"`
	Currency        string       `json:"currency"`
	AmountMicros    money.Micros `json:"amount_micros"`
	PeriodStart     *Instant     `json:"period_start,omitempty"`
	PeriodEnd       *Instant     `json:"period_end,omitempty"`
	CreatedAt       Instant      `json:"created_at"`
}

// Totals are what the entries add up to. ChargeMicros is C(metered time): usage less usage credits, once the meter is settled;
// forgiven is what was credited for an outage of the platform.
type Totals struct {
	UsageMicros       money.Micros `json:"usage_micros"`
	UsageCreditMicros money.Micros `json:"usage_credit_micros"`
	ForgivenMicros    money.Micros `json:"forgiven_micros"`
	// SuspendedMicros is what suspensions took out of the bill.
	SuspendedMicros money.Micros `json:"suspended_micros"`
	ChargeMicros    money.Micros `json:"charge_micros"`
}

// Lease is one custody of a node, with the evidence on which it was closed.
type Lease struct {
	NodeID     id.Node         `json:"node_id"`
	Generation int64           `json:"generation"`
	Ordinal    int             `json:"ordinal"`
	ClaimedAt  Instant         `json:"claimed_at"`
	GivenUpAt  *Instant        `json:"given_up_at,omitempty"`
	ClosedAt   *Instant        `json:"closed_at,omitempty"`
	ClosedBy   string          `json:"closed_by,omitempty"`
	Evidence   json.RawMessage `json:"evidence,omitempty"`
}

// Certificate is the release certificate: what was proven of the node when the allocation ended.
type Certificate struct {
	Wiped      bool     `json:"wiped"`
	Statement  string   `json:"statement"`
	Checks     []string `json:"checks,omitempty"`
	Assurance  string   `json:"assurance,omitempty"`
	NodeID     id.Node  `json:"node_id"`
	Generation int64    `json:"generation"`
}

// NodeCertificate is an mTLS certificate that a node held while it was in custody; Serial is lower-case hexadecimal.
type NodeCertificate struct {
	NodeID    id.Node `json:"node_id"`
	Serial    string  `json:"serial"`
	NotBefore Instant `json:"not_before"`
	NotAfter  Instant `json:"not_after"`
}

// AuditRow is what the tenant's audit log tells of the allocation.
type AuditRow struct {
	ID            int64           `json:"id"`
	ActorUserID   string          `json:"actor_user_id"`
	ActorRole     string          `json:"actor_role"`
	Action        string          `json:"action"`
	Result        string          `json:"result"`
	Details       json.RawMessage `json:"details,omitempty"`
	CorrelationID string          `json:"correlation_id"`
	CreatedAt     Instant         `json:"created_at"`
}
