// Package email says what people are written to about: the categories that they may switch off, which of an event's audience a mail goes
// to, and what an address is. It imports the standard library and domain packages only.
package email

import (
	"net/mail"
	"slices"
	"strings"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Category is a group of mails that somebody wants or does not want.
type Category string

// The categories.
const (
	Releases    Category = "releases"
	Balance     Category = "balance"
	Budgets     Category = "budgets"
	Payments    Category = "payments"
	Receipts    Category = "receipts"
	Allocations Category = "allocations"
	Webhooks    Category = "webhooks"
	Invitations Category = "invitations"
)

// Categories lists them, what cannot be switched off first.
func Categories() []Category {
	return []Category{Releases, Balance, Budgets, Payments, Receipts, Allocations, Webhooks, Invitations}
}

// Valid says whether c is one of them.
func (c Category) Valid() bool { return slices.Contains(Categories(), c) }

// Essential says whether c is told whatever somebody prefers: data is about to be lost.
func (c Category) Essential() bool { return c == Releases }

// Meaning is what the mails of a category are about, in one sentence.
func (c Category) Meaning() string {
	switch c {
	case Releases:
		return "What runs is about to be released, or is being released, because the balance or a budget is used up, and everything on it is deleted. It cannot be switched off."
	case Balance:
		return "The balance is low."
	case Budgets:
		return "A project has spent the share of its budget at which its people want to know."
	case Payments:
		return "A deposit, a refund or an automatic top-up came to nothing, or a payment is disputed."
	case Receipts:
		return "A payment was credited, or a refund was paid out."
	case Allocations:
		return "An allocation of yours could not be provided, or could not be released."
	case Webhooks:
		return "A webhook endpoint was disabled."
	case Invitations:
		return "Somebody invites you to a tenant or a project."
	default:
		return ""
	}
}

// Kind is what one mail is about: the type of an event, or InvitationCreated.
type Kind string

// InvitationCreated is the mail to whom an invitation is meant for. No event tells of it: it is nobody's but theirs.
const InvitationCreated Kind = "invitations.created"

// State is how a mail to one recipient stands.
type State string

// The states. All but Pending are final.
const (
	Pending State = "pending"
	// Sent: the SMTP server has taken it.
	Sent State = "sent"
	// Refused: the SMTP server takes it never.
	Refused State = "refused"
	// GivenUp: it could not be handed over in the time that there was.
	GivenUp State = "given_up"
	// Suppressed: nobody wanted it, or could be written to.
	Suppressed State = "suppressed"
)

// Addressees is who of an event's audience is written to.
type Addressees string

// The addressees. They are those of the audience who can do something about it; the others are told in the console.
const (
	// Nobody is written to.
	Nobody Addressees = "nobody"
	// MoneyPeople are the tenant's owners, administrators and billing.
	MoneyPeople Addressees = "money_people"
	// Administrators are the tenant's owners and administrators.
	Administrators Addressees = "administrators"
	// AllocationOwner is whose allocation it is; Administrators where that is a service account, which has no address.
	AllocationOwner Addressees = "allocation_owner"
)

// Roles are the roles in a tenant that addressees hold.
func (a Addressees) Roles() []identity.Role {
	switch a {
	case MoneyPeople:
		return []identity.Role{identity.Owner, identity.Admin, identity.Billing}
	case Administrators, AllocationOwner:
		return []identity.Role{identity.Owner, identity.Admin}
	default:
		return nil
	}
}

type rule struct {
	category   Category
	addressees Addressees
}

var rules = map[event.Type]rule{
	event.BillingLowBalanceWarning:  {Balance, MoneyPeople},
	event.BillingAutoReleasePending: {Releases, MoneyPeople},
	event.BillingBalanceDepleted:    {Releases, MoneyPeople},
	event.BillingBudgetWarning:      {Budgets, MoneyPeople},
	event.BillingBudgetExhausted:    {Releases, MoneyPeople},
	event.PaymentsBalanceCredited:   {Receipts, MoneyPeople},
	event.PaymentsRefundSettled:     {Receipts, MoneyPeople},
	event.PaymentsDepositFailed:     {Payments, MoneyPeople},
	event.PaymentsRefundFailed:      {Payments, MoneyPeople},
	event.PaymentsAutoTopUpPaused:   {Payments, MoneyPeople},
	event.PaymentsDisputeOpened:     {Payments, MoneyPeople},
	event.PaymentsDisputeClosed:     {Payments, MoneyPeople},
	event.ProvisioningFailed:        {Allocations, AllocationOwner},
	event.ProvisioningReleaseFailed: {Allocations, AllocationOwner},
	event.WebhooksEndpointDisabled:  {Webhooks, Administrators},
}

// Of is the category of an event and who is written to about it; Nobody for an event that no mail is about.
func Of(kind event.Type) (Category, Addressees) {
	if found, told := rules[kind]; told {
		return found.category, found.addressees
	}
	return "", Nobody
}

// Kinds lists everything that a mail is about, in no order.
func Kinds() []Kind {
	kinds := []Kind{InvitationCreated}
	for kind := range rules {
		kinds = append(kinds, Kind(kind))
	}
	return kinds
}

// Same says whether two addresses are one mailbox: capital letters make no difference.
func Same(one, other string) bool {
	return Address(one) && Address(other) && strings.EqualFold(one, other)
}

// longestAddress is that of RFC 5321, in bytes.
const longestAddress = 254

// Address says whether text is a bare address that a mail can be sent to: ASCII, without a name, a comment or a line break.
func Address(text string) bool {
	if text == "" || len(text) > longestAddress || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return false
	}
	parsed, err := mail.ParseAddress(text)
	return err == nil && parsed.Name == "" && parsed.Address == text
}
