//go:build oidc

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTheKeysArePublicOnes(t *testing.T) {
	u := target(t)
	status, raw := get(t, u.Keys, "")
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil || status != http.StatusOK {
		t.Fatalf("the keys answer %d %s", status, raw)
	}
	signing := 0
	for _, key := range set.Keys {
		for _, secret := range []string{"d", "p", "q", "k"} {
			if _, shown := key[secret]; shown {
				t.Errorf("the key %v shows its %s", key["kid"], secret)
			}
		}
		if key["use"] == "sig" && key["alg"] == "RS256" && key["kid"] != "" {
			signing++
		}
	}
	if signing == 0 {
		t.Errorf("no key signs: %s", raw)
	}
}

// The issuer turns its key under the hands of people who work; no request of theirs may be refused for it.
func TestARotationRefusesNobody(t *testing.T) {
	u := target(t)
	verifier := u.judge()
	service := url.Values{"grant_type": {"client_credentials"}, "client_id": {api}, "client_secret": {apiSecret}}
	before := u.ask(t, service).mustBeTokens(t).Access
	if _, err := verifier.Verify(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	// Everybody signs in for themselves: Keycloak takes two sign-ins of one person at one time for an attack.
	for _, who := range people {
		group.Go(func() {
			for working := true; working; {
				select {
				case <-stop:
					working = false
				default:
				}
				token := u.password(t, who)
				for _, one := range []string{before, token.Access} {
					if _, err := verifier.Verify(context.WithoutCancel(t.Context()), one); err != nil {
						t.Errorf("a token is refused around the rotation: %v", err)
						return
					}
				}
			}
		})
	}
	u.rotate(t)
	after := u.ask(t, service)
	close(stop)
	group.Wait()
	after.mustBeTokens(t)
	if kid(t, before) == kid(t, after.Access) {
		t.Error("the key was not turned")
	}
	for _, one := range []string{before, after.Access} {
		if _, err := verifier.Verify(t.Context(), one); err != nil {
			t.Errorf("a token is refused after the rotation: %v", err)
		}
	}
}

func kid(t *testing.T, token string) string {
	t.Helper()
	header := payload(t, "."+strings.Split(token, ".")[0]+".")
	name, _ := header["kid"].(string)
	if name == "" {
		t.Fatalf("the token names no key: %v", header)
	}
	return name
}

// rotate gives the issuer a new signing key; the one before stays published.
func (u under) rotate(t *testing.T) {
	t.Helper()
	address, body, authorize := u.Issuer+"/development/rotate-keys", []byte{}, func(r *http.Request) { r.SetBasicAuth(api, apiSecret) }
	if u.kind == keycloak {
		root, realm, _ := strings.Cut(u.Issuer, "/realms/")
		address, body = root+"/admin/realms/"+realm+"/components", marshal(t, map[string]any{
			"name": "rsa-turned", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
			"config": map[string][]string{"priority": {strconv.FormatInt(time.Now().Unix(), 10)}, // above every key before
				"enabled": {"true"}, "active": {"true"}, "algorithm": {"RS256"}, "keySize": {"2048"}},
		})
		token := u.administrator(t, root)
		authorize = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	authorize(request)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	_ = response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		t.Errorf("the rotation answers %s", response.Status)
	}
}

// administrator is a token of the Keycloak's own administrator, whom the lane made.
func (u under) administrator(t *testing.T, root string) string {
	t.Helper()
	admin := u
	admin.Token = root + "/realms/master/protocol/openid-connect/token"
	return admin.ask(t, url.Values{
		"grant_type": {"password"}, "client_id": {"admin-cli"},
		"username": {os.Getenv("GPUAAS_TEST_KEYCLOAK_ADMIN")}, "password": {os.Getenv("GPUAAS_TEST_KEYCLOAK_PASSWORD")},
	}).Access
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
