//go:build integration

package api_test

import (
	"encoding/json"
	"strings"
	"testing"
)

type preferences struct {
	EmailAddress  string `json:"email_address"`
	EmailVerified bool   `json:"email_verified"`
	Categories    []struct {
		Category  string
		Email     bool
		Essential bool
	}
}

const preferencesPath = "/api/v1/me/notification-preferences"

func (r reply) preferences(t *testing.T) (is preferences, off string) {
	t.Helper()
	if err := json.Unmarshal(r.body, &is); err != nil || r.status != 200 {
		t.Fatalf("preferences are answered %d %s", r.status, r.body)
	}
	for _, category := range is.Categories {
		if !category.Email {
			off += category.Category + " "
		}
	}
	return is, strings.TrimSpace(off)
}

func TestAnAddressFollowsTheIssuersWord(t *testing.T) {
	w := newWorld(t, 0)
	known := func() preferences {
		is, _ := w.ask("GET", preferencesPath, w.token("ada"), "", "").preferences(t)
		return is
	}
	if is := known(); is.EmailAddress != "" || is.EmailVerified {
		t.Errorf("of somebody whose token says nothing is known: %+v", is)
	}
	w.addresses = map[string]address{"ada": {"ada@example.com", false}}
	if is := known(); is.EmailAddress != "ada@example.com" || is.EmailVerified {
		t.Errorf("an address that is not verified is %+v", is)
	}
	w.addresses["ada"] = address{"ada@example.com", true}
	if is := known(); is.EmailAddress != "ada@example.com" || !is.EmailVerified {
		t.Errorf("a verified address is %+v", is)
	}
	version := w.field(`SELECT xmin::text FROM users WHERE username = 'ada'`)
	known()
	if again := w.field(`SELECT xmin::text FROM users WHERE username = 'ada'`); again != version {
		t.Error("a request that says nothing new writes")
	}
	w.addresses["ada"] = address{"eve@evil.test\r\nBcc: all@example.com", true}
	if is := known(); is.EmailAddress != "ada@example.com" {
		t.Errorf("what is no address is taken for one: %+v", is)
	}
	delete(w.addresses, "ada")
	if is := known(); is.EmailAddress != "ada@example.com" || !is.EmailVerified {
		t.Errorf("a token that says nothing of an address changes it to %+v", is)
	}
	if exported := w.ask("GET", "/api/v1/me/export", w.token("ada"), "", ""); !strings.Contains(string(exported.body), "ada@example.com") {
		t.Error("an export lacks the address")
	}
	// Whoever leaves takes the address along.
	w.ask("POST", "/api/v1/tenants/"+w.tenantOf("ada")+"/close", w.token("ada"), "k", `{"reason":"we move on"}`)
	if gone := w.ask("DELETE", "/api/v1/me", w.token("ada"), "", ""); gone.status != 204 {
		t.Fatalf("%d %s", gone.status, gone.body)
	}
	if left := w.field(`SELECT count(*)::text FROM users WHERE email <> ''`); left != "0" {
		t.Error("an erased person has an address")
	}
}

func TestPeopleChooseWhatTheyAreWrittenToAbout(t *testing.T) {
	w := newWorld(t, 0)
	ada := w.token("ada")
	if _, off := w.ask("GET", preferencesPath, ada, "", "").preferences(t); off != "" {
		t.Errorf("%q is off before anybody asked for it", off)
	}
	if _, off := w.ask("PUT", preferencesPath, ada, "", `{"email_off":["receipts","balance","receipts"]}`).preferences(t); off != "balance receipts" {
		t.Errorf("%q is off", off)
	}
	w.unchanged(func() {
		w.want(w.ask("PUT", preferencesPath, ada, "", `{"email_off":["releases"]}`), 409, "essential_email")
		w.want(w.ask("PUT", preferencesPath, ada, "", `{"email_off":["everything"]}`), 422, "validation_error")
	})
	if _, off := w.ask("PUT", preferencesPath, ada, "", `{"email_off":["webhooks","receipts"]}`).preferences(t); off != "receipts webhooks" {
		t.Errorf("%q is off after another choice", off)
	}
	if _, off := w.ask("GET", preferencesPath, w.token("ben"), "", "").preferences(t); off != "" {
		t.Errorf("of somebody else %q is off", off)
	}
	if _, off := w.ask("PUT", preferencesPath, ada, "", `{"email_off":[]}`).preferences(t); off != "" {
		t.Errorf("%q is off after everything was chosen", off)
	}
}
