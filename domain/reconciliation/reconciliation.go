// Package reconciliation says what is compared with what, what may be found, and what the charge rule makes of an allocation's entries.
// It imports the standard library and other domain packages.
package reconciliation

import (
	"slices"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Check is one comparison. A run makes all of them, in the order of Checks.
type Check string

const (
	// Windows holds what each allocation was billed beside its meter and the charge rule.
	Windows Check = "windows"
	// Entries holds each ledger entry beside what it is about.
	Entries Check = "entries"
	// Workflows holds open allocations, nodes, accounts that spend, and money that is under way beside their workflows in Temporal.
	Workflows Check = "workflows"
	// Custody holds nodes, leases and allocations beside each other.
	Custody Check = "custody"
	// Provider holds payments, refunds and disputes beside the payment provider's.
	Provider Check = "provider"
	// Balances holds the balance that is answered for each account beside the sum of its entries.
	Balances Check = "balances"
)

// Checks lists every check, in the order in which a run makes them.
func Checks() []Check { return []Check{Windows, Entries, Workflows, Custody, Provider, Balances} }

// Kind says what is wrong.
type Kind string

const (
	Unbilled            Kind = "unbilled"
	Overbilled          Kind = "overbilled"
	SettlementDiffers   Kind = "settlement_differs"
	EntryOrphaned       Kind = "entry_orphaned"
	EntryContradicted   Kind = "entry_contradicted"
	WorkflowMissing     Kind = "allocation_without_workflow"
	WorkflowOrphaned    Kind = "workflow_without_allocation"
	NodeWorkflowMissing Kind = "node_without_workflow"
	FundsUnwatched      Kind = "funds_without_workflow"
	PaymentAbandoned    Kind = "payment_without_workflow"
	RefundAbandoned     Kind = "refund_without_workflow"
	DisputeAbandoned    Kind = "dispute_without_workflow"
	ClaimWithoutLease   Kind = "claim_without_lease"
	LeaseWithoutClaim   Kind = "lease_without_claim"
	ClaimDiffers        Kind = "claim_differs_from_lease"
	ClaimOrphaned       Kind = "claim_without_allocation"
	ClaimMissing        Kind = "allocation_without_claim"
	PaymentUnmatched    Kind = "payment_unmatched"
	PaymentUnfounded    Kind = "payment_unfounded"
	PaymentDiffers      Kind = "payment_amount_differs"
	RefundUnmatched     Kind = "refund_unmatched"
	RefundUnfounded     Kind = "refund_unfounded"
	RefundDiffers       Kind = "refund_amount_differs"
	DisputeUnmatched    Kind = "dispute_unmatched"
	DisputeDiffers      Kind = "dispute_differs"
	BalanceDiffers      Kind = "balance_differs"
	BooksUnbalanced     Kind = "books_unbalanced"
)

// checks names the check that finds a kind.
var checks = map[Kind]Check{
	Unbilled: Windows, Overbilled: Windows, SettlementDiffers: Windows,
	EntryOrphaned: Entries, EntryContradicted: Entries,
	WorkflowMissing: Workflows, WorkflowOrphaned: Workflows, NodeWorkflowMissing: Workflows,
	FundsUnwatched: Workflows, PaymentAbandoned: Workflows, RefundAbandoned: Workflows, DisputeAbandoned: Workflows,
	ClaimWithoutLease: Custody, LeaseWithoutClaim: Custody, ClaimDiffers: Custody, ClaimOrphaned: Custody, ClaimMissing: Custody,
	PaymentUnmatched: Provider, PaymentUnfounded: Provider, PaymentDiffers: Provider, RefundUnmatched: Provider, RefundUnfounded: Provider,
	RefundDiffers: Provider, DisputeUnmatched: Provider, DisputeDiffers: Provider,
	BalanceDiffers: Balances, BooksUnbalanced: Balances,
}

// Check that finds this kind; empty for a kind that does not exist.
func (k Kind) Check() Check { return checks[k] }

// Severity says how soon somebody must look.
type Severity string

const (
	// Critical: a tenant's money, or who has custody of a node, is not what the books say.
	Critical Severity = "critical"
	// Warning: the platform alone loses, time or money.
	Warning Severity = "warning"
)

// warnings are the kinds that cost nobody else anything.
var warnings = []Kind{Unbilled, WorkflowMissing, WorkflowOrphaned, NodeWorkflowMissing, FundsUnwatched, ClaimOrphaned, LeaseWithoutClaim}

// Severity of a kind.
func (k Kind) Severity() Severity {
	if slices.Contains(warnings, k) {
		return Warning
	}
	return Critical
}

// Kinds lists every kind there is, in no order.
func Kinds() []Kind {
	all := make([]Kind, 0, len(checks))
	for kind := range checks {
		all = append(all, kind)
	}
	return all
}

// State is how a finding stands.
type State string

const (
	// Open is what the last look still saw, and nobody dismissed.
	Open State = "open"
	// Resolved is what a later run no longer saw.
	Resolved State = "resolved"
	// Dismissed is what an operator knows about and wants to hear no more of, as long as it stays the same.
	Dismissed State = "dismissed"
)

// Manner is how a finding can be corrected: by which entry.
type Manner string

const (
	// Adjust posts what is missing or too much as an adjustment of the account.
	Adjust Manner = "adjustment"
	// Deposit credits a payment under the key of its fact, so that whoever learns of it later cannot credit it again.
	Deposit Manner = "deposit"
)

// Found is one thing that is wrong. AmountMicros is what the account is owed: positive has too little, negative too much. A Manner, with an
// account and an amount, offers a correction.
type Found struct {
	Kind    Kind
	Subject string
	// Sentence says for a person what is the case.
	Sentence     string
	Detail       map[string]any
	AccountID    id.Account
	Currency     string
	AmountMicros money.Micros
	Manner       Manner
}
