// Package id holds the typed identifiers of every noun: a visible prefix and 26 characters of
// lower-case base32. Two nouns meet by id and by nothing else, so this leaf imports only the
// standard library and makes no randomness of its own: entropy is passed in.
package id

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

type (
	// Allocation names one tenant's hold on one node, from request to release ("alloc_…").
	Allocation string
	// Node names an enrolled machine ("node_…").
	Node string
	// User names a person, made at first sign-in and keyed by (iss, sub) ("user_…").
	User string
	// Tenant names who owns projects and the billing account ("tenant_…").
	Tenant string
	// Project names the folder allocations live in ("proj_…").
	Project string
	// Account names a ledger account, a tenant's or the platform's ("acct_…").
	Account string
	// Price names one insert-only price row of a SKU ("price_…").
	Price string
	// Adjustment names one correction of an account's balance ("adj_…").
	Adjustment string
	// Credential names a token or a secret that a program signs in with ("cred_…"); it is not the secret itself.
	Credential string
	// SSHKey names a public key that a user keeps for their allocations ("key_…").
	SSHKey string
	// Invitation names one offer of a role in a tenant or a project ("inv_…").
	Invitation string
	// Payment names one deposit into a tenant's account ("pay_…").
	Payment string
	// Refund names one repayment of a payment, or of a part of it ("ref_…").
	Refund string
	// Dispute names a customer's bank's objection to a payment ("disp_…").
	Dispute string
	// Webhook names an endpoint of a tenant's that is told of events ("hook_…").
	Webhook string
	// Delivery names one event on its way to one webhook ("dlv_…").
	Delivery string
	// Mail names one mail to one recipient ("mail_…").
	Mail string
	// Card names a card that a tenant saved at the payment provider ("card_…").
	Card string
	// Run names one run of the reconciliation ("recon_…").
	Run string
	// Finding names one disagreement that a reconciliation found ("find_…").
	Finding string
	// Correction names one repair of a finding by a new ledger entry ("corr_…").
	Correction string
	// SKU is the operator's own slug for a kind of node, such as "h100-8x".
	SKU string
)

// Kind is any identifier that carries a prefix.
type Kind interface {
	Allocation | Node | User | Tenant | Project | Account | Price | Adjustment | Credential | SSHKey | Invitation | Payment | Refund | Dispute | Webhook |
		Delivery | Mail | Card | Run | Finding | Correction
}

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// encodedLength is what 16 bytes of entropy become in base32.
const encodedLength = 26

// New renders 16 bytes of entropy (random, or an HMAC where the id must derive from a request) as an
// id of kind K.
func New[K Kind](entropy [16]byte) K {
	return K(prefix[K]() + encoding.EncodeToString(entropy[:]))
}

// ErrStrayBits says that a text has the form of an id and is one that New never renders: bits are left over at its end.
var ErrStrayBits = errors.New("bits are left over at its end")

// Parse accepts exactly what New produces for the kind K; anything else is an error that names the
// expected prefix.
func Parse[K Kind](text string) (K, error) {
	rest, found := strings.CutPrefix(text, prefix[K]())
	if !found || len(rest) != encodedLength {
		return "", fmt.Errorf("an id of this kind is %q followed by %d characters of lower-case base32", prefix[K](), encodedLength)
	}
	raw, err := encoding.DecodeString(rest)
	if err != nil {
		return "", fmt.Errorf("an id of this kind is %q followed by lower-case base32: %w", prefix[K](), err)
	}
	if encoding.EncodeToString(raw) != rest {
		return "", fmt.Errorf("the id %q: %w", text, ErrStrayBits)
	}
	return K(text), nil
}

func prefix[K Kind]() string {
	var zero K
	switch any(zero).(type) {
	case Allocation:
		return "alloc_"
	case Node:
		return "node_"
	case User:
		return "user_"
	case Tenant:
		return "tenant_"
	case Project:
		return "proj_"
	case Account:
		return "acct_"
	case Price:
		return "price_"
	case Credential:
		return "cred_"
	case SSHKey:
		return "key_"
	case Invitation:
		return "inv_"
	case Payment:
		return "pay_"
	case Refund:
		return "ref_"
	case Dispute:
		return "disp_"
	case Webhook:
		return "hook_"
	case Delivery:
		return "dlv_"
	case Mail:
		return "mail_"
	case Card:
		return "card_"
	case Run:
		return "recon_"
	case Finding:
		return "find_"
	case Correction:
		return "corr_"
	default:
		return "adj_"
	}
}
