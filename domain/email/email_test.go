package email_test

import (
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/identity"
)

func TestAMailGoesToNobodyOutsideOfTheAudience(t *testing.T) {
	for _, kind := range event.All() {
		category, addressees := email.Of(kind)
		if addressees == email.Nobody {
			continue
		}
		if !category.Valid() || category.Meaning() == "" {
			t.Errorf("%s is of the category %q, which is none", kind, category)
		}
		switch kind.Audience() {
		case event.Members: // every role of a tenant sees allocations
			for _, role := range addressees.Roles() {
				if !role.Grants(identity.AllocationsRead) {
					t.Errorf("%s goes to %s, who may not see allocations", kind, role)
				}
			}
		case event.Billing:
			if addressees != email.MoneyPeople {
				t.Errorf("%s is about money and goes to %s", kind, addressees)
			}
		default:
			t.Errorf("%s has the audience %s, and mails are written about it", kind, kind.Audience())
		}
	}
}

func TestWhatDeletesDataCannotBeSwitchedOff(t *testing.T) {
	for _, kind := range []event.Type{event.BillingAutoReleasePending, event.BillingBalanceDepleted, event.BillingBudgetExhausted} {
		if category, _ := email.Of(kind); !category.Essential() {
			t.Errorf("%s can be switched off", kind)
		}
	}
	if email.Balance.Essential() || email.Receipts.Essential() || email.Invitations.Essential() {
		t.Error("what deletes nothing cannot be switched off")
	}
}

func TestAnAddressIsOneThatAHeaderCanHold(t *testing.T) {
	for text, want := range map[string]bool{
		"ada@example.com":                       true,
		"ada+gpu@example.com":                   true,
		"dev-user@localhost":                    true,
		"":                                      false,
		"ada":                                   false,
		"Ada <ada@example.com>":                 false,
		"<ada@example.com>":                     false,
		"ada@example.com\r\nBcc: eve@evil.test": false,
		"ada@example.com,eve@evil.test":         false,
		"ada (eve)@example.com":                 false,
		"ädä@example.com":                       false,
		"ada@example.com\x00":                   false,
		strings.Repeat("a", 250) + "@example.com": false,
	} {
		if got := email.Address(text); got != want {
			t.Errorf("%q is an address: %t, not %t", text, got, want)
		}
	}
}

// By this an invitation is given away: two that are no address are never the same, as that of an invitation to nobody and of a person without one.
func TestAnAddressIsTheSameForOneMailboxAlone(t *testing.T) {
	for _, test := range []struct {
		one, other string
		same       bool
	}{
		{"ada@example.com", "ada@example.com", true},
		{"Ada@Example.COM", "ada@example.com", true},
		{"", "", false},
		{"ada", "ada", false},
		{"ada@example.com", "ada@example.com ", false},
		{"ada@example.com", "Ada <ada@example.com>", false},
		{"ada@example.com", "ada@example.org", false},
		{"ada+x@example.com", "ada@example.com", false},
		{"kim@example.com", "\u212aim@example.com", false}, // the Kelvin sign folds to a k
	} {
		if got := email.Same(test.one, test.other); got != test.same {
			t.Errorf("%q and %q are the same: %v", test.one, test.other, got)
		}
	}
}
