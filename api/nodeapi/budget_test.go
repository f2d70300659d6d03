package nodeapi

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

func TestBudgetsAreKeptApartRefilledAndForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := newBudgets(1, 2)
	for i, want := range []bool{true, true, false} {
		if got := b.allow("a", now); got != want {
			t.Errorf("request %d of a: %t", i, got)
		}
	}
	if !b.allow("b", now) {
		t.Error("b pays for a")
	}
	if !b.allow("a", now.Add(time.Second)) {
		t.Error("a second refills nothing")
	}
	for i := range maxBudgets {
		b.allow(strconv.Itoa(i), now)
	}
	if b.allow("one too many", now) || !b.allow("b", now) {
		t.Error("a flood of strangers is remembered without bound, or drives out who is known")
	}
	if b.allow("later", now.Add(2*idleBudget)); len(b.byKey) != 1 {
		t.Errorf("%d idle budgets are still remembered", len(b.byKey)-1)
	}
}

func TestAStrangersAddressIsItsNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:4711": "10.0.0.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[::ffff:10.0.0.1]:1": "::ffff:10.0.0.1", "odd": "odd",
	} {
		if got := addressOf(&http.Request{RemoteAddr: address}); got != want {
			t.Errorf("%s counts as %s, not %s", address, got, want)
		}
	}
}
