//go:build integration

package api_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// enrolService makes a service account of the tenant and answers its id.
func (s *scene) enrolService() string {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/service-accounts", s.credentials["owner"], "", fmt.Sprintf(`{"tenant_id":%q,"name":"service-%03d","role":"member"}`, s.tenant, s.made))
	if made.status != 201 {
		s.t.Fatalf("the scene's service account is answered %d %s", made.status, made.body)
	}
	return made.text("id")
}

// secretOf makes a secret of a service account.
func (s *scene) secretOf(account string) (secretID, secret string) {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/service-accounts/"+account+"/secrets", s.credentials["owner"], fmt.Sprintf("secret-%03d", s.made), `{}`)
	if made.status != 201 {
		s.t.Fatalf("the scene's secret is answered %d %s", made.status, made.body)
	}
	return made.text("id"), made.text("client_secret")
}

// exchange is the body with which a service account asks for an access token.
func exchange(account, secret, scope string) string {
	body := fmt.Sprintf(`{"grant_type":"client_credentials","client_id":%q,"client_secret":%q}`, account, secret)
	if scope != "" {
		body = strings.TrimSuffix(body, "}") + fmt.Sprintf(`,"scope":%q}`, scope)
	}
	return body
}

// serve gives the service account of the matrix its two tokens.
func (s *scene) serve() {
	s.t.Helper()
	account := s.enrolService()
	_, secret := s.secretOf(account)
	for caller, scope := range map[string]string{"service_account": "", "service_account_without_scope": "keys:read"} {
		got := s.ask("POST", "/api/v1/auth/token", "", "", exchange(account, secret, scope))
		if got.status != 200 {
			s.t.Fatalf("the service account is answered %d %s", got.status, got.body)
		}
		s.credentials[caller] = got.text("access_token")
	}
}

// publicKey is an SSH key that nobody has yet.
func (s *scene) publicKey() string {
	s.t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func (s *scene) tokenRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	here := "?tenant_id=" + s.tenant
	ofAllocation := subject{path: map[string]string{"allocation_id": s.allocation}}
	requests["listEvidenceKeys"], requests["getAllocationEvidence"] = always(subject{}), always(ofAllocation)
	requests["listSSHKeys"], requests["listServiceAccounts"] = always(subject{query: here}), always(subject{query: here})
	key := func() string {
		s.made++
		return fmt.Sprintf(`{"project_id":%q,"name":"key-%03d","public_key":%q}`, s.project, s.made, s.publicKey())
	}
	requests["createSSHKey"] = func(string) subject { return subject{body: key()} }
	requests["deleteSSHKey"] = func(string) subject {
		made := s.ask("POST", "/api/v1/ssh-keys", s.credentials["user"], "", key())
		return subject{path: map[string]string{"ssh_key_id": made.text("id")}}
	}
	account := s.enrolService()
	ofAccount := map[string]string{"service_account_id": account}
	requests["createServiceAccount"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"tenant_id":%q,"name":"matrix-%03d","role":"viewer"}`, s.tenant, s.made)}
	}
	requests["getServiceAccount"] = always(subject{path: ofAccount})
	requests["updateServiceAccount"] = func(string) subject {
		return subject{path: map[string]string{"service_account_id": s.enrolService()}, body: `{"disabled":true}`}
	}
	requests["createServiceAccountSecret"] = func(string) subject {
		return subject{path: map[string]string{"service_account_id": s.enrolService()}, body: `{}`}
	}
	requests["revokeServiceAccountSecret"] = func(string) subject {
		of := s.enrolService()
		secretID, _ := s.secretOf(of)
		return subject{path: map[string]string{"service_account_id": of, "secret_id": secretID}}
	}
	_, secret := s.secretOf(account)
	requests["exchangeToken"] = always(subject{body: exchange(account, secret, "")})
	requests["createToken"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"name":"token-%03d","scopes":["profile:read"]}`, s.made)}
	}
	requests["listTokens"] = always(subject{})
	// Everybody revokes a token of their own; for whoever has none any id will do.
	requests["revokeToken"] = func(caller string) subject {
		s.made++
		made := s.ask("POST", "/api/v1/tokens", s.credentials[caller], fmt.Sprintf("own-%03d", s.made), fmt.Sprintf(`{"name":"own-%03d","scopes":["profile:read"]}`, s.made))
		tokenID := made.text("id")
		if tokenID == "" {
			tokenID = "cred_aaaaaaaaaaaaaaaaaaaaaaaaaa"
		}
		return subject{path: map[string]string{"token_id": tokenID}}
	}
	return requests
}
