//go:build oidc

package conformance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// device is an answer of the device-authorisation endpoint.
type device struct {
	Code     string `json:"device_code"`
	UserCode string `json:"user_code"`
	Page     string `json:"verification_uri"`
	PageFull string `json:"verification_uri_complete"`
	Interval int    `json:"interval"`
	Expires  int    `json:"expires_in"`
}

func newDevice(t *testing.T, u under) device {
	t.Helper()
	status, raw := post(t, u.Device, url.Values{"client_id": {cli}, "scope": {"openid profile email"}})
	var answer device
	if err := json.Unmarshal(raw, &answer); err != nil || status != http.StatusOK {
		t.Fatalf("the device authorisation answers %d %s", status, raw)
	}
	if answer.Code == "" || answer.UserCode == "" || answer.Page == "" || answer.Interval <= 0 || answer.Expires <= 0 ||
		!strings.Contains(answer.PageFull, answer.UserCode) {
		t.Fatalf("the device is told %+v", answer)
	}
	return answer
}

func (d device) poll(t *testing.T, u under) tokens {
	t.Helper()
	return u.ask(t, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {cli}, "device_code": {d.Code}})
}

// next polls when the interval is over, as a device must.
func (d device) next(t *testing.T, u under) tokens {
	t.Helper()
	select {
	case <-time.After(time.Duration(d.Interval)*time.Second + 100*time.Millisecond):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	return d.poll(t, u)
}

// deciding has tests that run side by side sign people in one after the other.
var deciding sync.Mutex

// decide leads a browser through the pages of a device: signing in, then yes or no.
func (d device) decide(t *testing.T, who person, button string) {
	t.Helper()
	// Keycloak refuses a person's login while another login of the same person is under way.
	deciding.Lock()
	defer deciding.Unlock()
	b := newBrowser(t)
	p := b.signIn(t, b.open(t, d.PageFull), who)
	if p.form == nil {
		t.Fatalf("nobody is asked whether the device may act (%d):\n%s", p.status, p.text)
	}
	if _, asked := p.form.buttons[button]; !asked {
		t.Fatalf("the page has no button %q: %v", button, p.form.buttons)
	}
	if p = b.submit(t, p, nil, button); p.status >= http.StatusInternalServerError {
		t.Fatalf("the decision answers %d:\n%s", p.status, p.text)
	}
}

func TestADeviceIsConnectedByAPerson(t *testing.T) {
	t.Parallel()
	u := target(t)
	d := newDevice(t, u)
	d.poll(t, u).mustBe(t, "the first question", http.StatusBadRequest, "authorization_pending")
	d.poll(t, u).mustBe(t, "a question at once after it", http.StatusBadRequest, "slow_down")
	d.decide(t, people[2], "accept")
	got := d.next(t, u).mustBeTokens(t)
	u.mustSay(t, got, cli, people[2])
	u.mustSay(t, u.ask(t, refreshing(cli, got.Refresh)).mustBeTokens(t), cli, people[2])
	if again := d.next(t, u); again.status != http.StatusBadRequest || again.Access != "" {
		t.Errorf("a device code is good twice: %+v", again)
	}
}

func TestADeviceThatIsRefusedGetsNothing(t *testing.T) {
	t.Parallel()
	u := target(t)
	d := newDevice(t, u)
	d.decide(t, people[0], "cancel")
	d.poll(t, u).mustBe(t, "a refused device", http.StatusBadRequest, "access_denied")
}

func TestADeviceNobodyKnowsGetsNothing(t *testing.T) {
	u := target(t)
	if got := (device{Code: "made-up"}).poll(t, u); got.status != http.StatusBadRequest || got.Access != "" {
		t.Errorf("a made-up device code answers %+v", got)
	}
	status, raw := post(t, u.Device, url.Values{"client_id": {web}})
	if status < http.StatusBadRequest {
		t.Errorf("a client of browsers may connect devices: %d %s", status, raw)
	}
	p := newBrowser(t).open(t, newDevice(t, u).Page+"?user_code=AAAA-AAAA")
	if p.asksForPassword() {
		t.Error("a made-up user code leads to a login page")
	}
}

func TestAServiceSignsInWithItsSecret(t *testing.T) {
	u := target(t)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {api}, "client_secret": {apiSecret}}
	got := u.ask(t, form).mustBeTokens(t)
	u.mustSay(t, got, api, person{name: "service-account-gpuaas-api"})
	if got.Refresh != "" {
		t.Error("a service gets a refresh token")
	}
	for name, change := range map[string][2]string{"another secret": {"client_secret", "x"}, "no secret": {"client_secret", ""}, "a public client": {"client_id", web}} {
		wrong := url.Values{}
		for key, values := range form {
			wrong[key] = values
		}
		wrong.Set(change[0], change[1])
		if answer := u.ask(t, wrong); answer.status != http.StatusUnauthorized && answer.status != http.StatusBadRequest || answer.Access != "" {
			t.Errorf("%s answers %+v", name, answer)
		}
	}
}

func TestADeveloperSignsInWithAPassword(t *testing.T) {
	u := target(t)
	for _, who := range people {
		t.Run(who.name, func(t *testing.T) {
			got := u.password(t, who).mustBeTokens(t)
			u.mustSay(t, got, api, who)
			if got.ID != "" {
				t.Error("an ID token is given that nobody asked for")
			}
			u.mustSay(t, u.ask(t, refreshing(api, got.Refresh)).mustBeTokens(t), api, who)
		})
	}
	u.password(t, person{name: "dev-user", password: "dev124"}).mustBe(t, "a wrong password", http.StatusUnauthorized, "invalid_grant")
	u.ask(t, url.Values{"grant_type": {"password"}, "client_id": {api}, "client_secret": {"x"}, "username": {"dev-user"}, "password": {"dev123"}}).
		mustBe(t, "a wrong secret", http.StatusUnauthorized, "invalid_client", "unauthorized_client")
	for _, public := range []string{web, cli} {
		u.ask(t, url.Values{"grant_type": {"password"}, "client_id": {public}, "username": {"dev-user"}, "password": {"dev123"}}).
			mustBe(t, public, http.StatusBadRequest, "unauthorized_client")
	}
}

func TestUserinfoIsForAccessTokens(t *testing.T) {
	u := target(t)
	_, got := signedIn(t, u, people[2])
	status, raw := get(t, u.Userinfo, got.Access)
	var info map[string]any
	if err := json.Unmarshal(raw, &info); err != nil || status != http.StatusOK {
		t.Fatalf("userinfo answers %d %s", status, raw)
	}
	if info["sub"] != people[2].subject || info["preferred_username"] != people[2].name || info["org_id"] != people[2].organisation {
		t.Errorf("userinfo says %v", info)
	}
	for kind, token := range map[string]string{"no": "", "a refresh": got.Refresh, "an ID": got.ID} {
		if status, raw := get(t, u.Userinfo, token); status < http.StatusBadRequest {
			t.Errorf("userinfo for %s token answers %d %s", kind, status, raw)
		}
	}
}

// Whoever could write their own org_id could walk into another tenant.
func TestNobodyChoosesTheirOwnOrganisation(t *testing.T) {
	u := target(t)
	who := people[0]
	token := u.password(t, who).mustBeTokens(t).Access
	body, err := json.Marshal(map[string]any{
		"username": who.name, "email": who.name + "@localhost", "attributes": map[string]any{"org_id": []string{"acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.Issuer+"/account/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	status, raw := do(t, request)
	switch {
	case u.kind == keycloak && (status != http.StatusBadRequest || !bytes.Contains(raw, []byte("read-only"))):
		t.Errorf("the account API answers %d %s", status, raw)
	case u.kind == embedded && status != http.StatusNotFound:
		t.Errorf("this issuer has no account API, and answers %d %s", status, raw)
	}
	u.mustSay(t, u.password(t, who).mustBeTokens(t), api, who)
}
