//go:build integration

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// send makes a request to a replica with exactly these headers.
func (w *world) send(base, method, path, body string, headers map[string]string) reply {
	w.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, text}
}

// get asks a replica with a token.
func (w *world) get(base, path, token string) reply {
	w.t.Helper()
	return w.send(base, "GET", path, "", map[string]string{"Authorization": "Bearer " + token})
}

// exchange is the client credentials grant as JSON; scope may be empty.
func (w *world) exchange(clientID, clientSecret, scope string) reply {
	w.t.Helper()
	fields := map[string]string{"grant_type": "client_credentials", "client_id": clientID, "client_secret": clientSecret}
	if scope != "" {
		fields["scope"] = scope
	}
	body, _ := json.Marshal(fields)
	return w.ask("POST", "/api/v1/auth/token", "", "", string(body))
}

// soon waits until a replica answers a token so: a change is heard of, and not looked for.
func (w *world) soon(what, base, path, token string, status int, code string) {
	w.t.Helper()
	temporaltest.Eventually(w.t, 2*time.Second, func() error {
		if got := w.get(base, path, token); got.status != status || got.text("code") != code {
			return fmt.Errorf("%s: answered %d %s", what, got.status, got.body)
		}
		return nil
	})
}

// account makes a service account with a secret.
func (w *world) account(token, name, role string) (clientID, clientSecret string) {
	w.t.Helper()
	made := w.ask("POST", "/api/v1/service-accounts", token, "", `{"name":"`+name+`","role":"`+role+`"}`)
	if made.status != 201 {
		w.t.Fatalf("the service account is answered %d %s", made.status, made.body)
	}
	minted := w.ask("POST", "/api/v1/service-accounts/"+made.text("id")+"/secrets", token, "", `{}`)
	if minted.status != 201 || !strings.HasPrefix(minted.text("client_secret"), "gpuaas_sas_") {
		w.t.Fatalf("the secret is answered %d %s", minted.status, minted.body)
	}
	return made.text("id"), minted.text("client_secret")
}

func TestAServiceAccountSignsInByItsSecret(t *testing.T) {
	w := newWorld(t, 1)
	alice := w.token("alice")
	clientID, clientSecret := w.account(alice, "nightly", "member")

	t.Run("as JSON, as a form and by Basic", func(t *testing.T) {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {clientSecret}, "audience": {"ignored"}}
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base, nil)
		request.SetBasicAuth(clientID, clientSecret)
		for name, answer := range map[string]reply{
			"JSON": w.exchange(clientID, clientSecret, ""),
			"form": w.send(w.base, "POST", "/api/v1/auth/token", form.Encode(), map[string]string{"Content-Type": "application/x-www-form-urlencoded"}),
			"Basic": w.send(w.base, "POST", "/api/v1/auth/token", "grant_type=client_credentials", map[string]string{
				"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "Authorization": request.Header.Get("Authorization")}),
			"Basic and JSON": w.send(w.base, "POST", "/api/v1/auth/token", `{"grant_type":"client_credentials"}`, map[string]string{
				"Content-Type": "application/json", "Authorization": request.Header.Get("Authorization")}),
		} {
			if answer.status != 200 || answer.text("token_type") != "Bearer" || !strings.HasPrefix(answer.text("access_token"), "gpuaas_sa_") ||
				answer.fields()["expires_in"] != float64(900) || answer.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s: answered %d %s", name, answer.status, answer.body)
			}
			if me := w.get(w.base, "/api/v1/me", answer.text("access_token")); me.status != 200 || !strings.Contains(string(me.body), clientID) {
				t.Errorf("%s: the token is %d %s", name, me.status, me.body)
			}
		}
	})

	t.Run("what is no credential is refused", func(t *testing.T) {
		otherID, otherSecret := w.account(alice, "other", "viewer")
		for name, test := range map[string]struct {
			answer reply
			status int
			code   string
		}{
			"another's secret":     {w.exchange(clientID, otherSecret, ""), 401, "token_invalid"},
			"a wrong secret":       {w.exchange(otherID, otherSecret+"x", ""), 401, "token_invalid"},
			"no secret":            {w.exchange(clientID, "", ""), 401, "token_invalid"},
			"no such account":      {w.exchange(string(randomID[id.User]()), clientSecret, ""), 401, "token_invalid"},
			"no id":                {w.exchange("nightly", clientSecret, ""), 401, "token_invalid"},
			"a person":             {w.exchange(w.field(`SELECT id FROM users WHERE username = 'alice'`), clientSecret, ""), 401, "token_invalid"},
			"a scope that is none": {w.exchange(clientID, clientSecret, "allocations:eat"), 422, "validation_error"},
			"more than the role":   {w.exchange(clientID, clientSecret, "allocations:read members:write"), 403, "token_scope_invalid"},
			"another grant": {w.ask("POST", "/api/v1/auth/token", "", "", `{"grant_type":"password","client_id":"`+clientID+`"}`),
				422, "validation_error"},
			"a field twice": {w.send(w.base, "POST", "/api/v1/auth/token", "grant_type=client_credentials&client_id=a&client_id=b",
				map[string]string{"Content-Type": "application/x-www-form-urlencoded"}), 400, "invalid_request"},
			"two ways at once": {w.send(w.base, "POST", "/api/v1/auth/token", "grant_type=client_credentials&client_secret=x",
				map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic YTpi"}), 400, "invalid_request"},
			"broken Basic": {w.send(w.base, "POST", "/api/v1/auth/token", "grant_type=client_credentials",
				map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic %%%"}), 400, "invalid_request"},
			"the secret as a token":   {w.get(w.base, "/api/v1/me", clientSecret), 401, "token_invalid"},
			"a token nobody has":      {w.get(w.base, "/api/v1/me", "gpuaas_sa_"+strings.Repeat("a", 43)), 401, "token_invalid"},
			"a personal one nobody":   {w.get(w.base, "/api/v1/me", "gpuaas_api_"+strings.Repeat("a", 43)), 401, "token_invalid"},
			"an access token cut off": {w.get(w.base, "/api/v1/me", "gpuaas_sa_"), 401, "token_invalid"},
		} {
			if test.answer.status != test.status || test.answer.text("code") != test.code {
				t.Errorf("%s: answered %d %s", name, test.answer.status, test.answer.body)
			}
		}
	})

	t.Run("within its scopes and its role", func(t *testing.T) {
		reader := w.exchange(clientID, clientSecret, "allocations:read").text("access_token")
		w.want(w.ask("POST", "/api/v1/allocations", reader, "k1", create("train")), 403, "token_scope_invalid")
		w.want(w.get(w.base, "/api/v1/billing/balance", reader), 403, "token_scope_invalid")
		writer := w.exchange(clientID, clientSecret, "").text("access_token")
		made := w.ask("POST", "/api/v1/allocations", writer, "k1", create("train"))
		if made.status != 201 || made.text("user_id") != clientID {
			t.Fatalf("a member's program is answered %d %s", made.status, made.body)
		}
		if seen := w.get(w.base, made.header.Get("Location"), reader); seen.status != 200 {
			t.Errorf("a reader is answered %d %s", seen.status, seen.body)
		}
		w.want(w.ask("POST", "/api/v1/service-accounts", writer, "", `{"name":"more","role":"viewer"}`), 403, "token_scope_invalid")
		w.exec(`UPDATE tenant_members SET role = 'viewer' WHERE user_id = $1`, clientID)
		w.soon("reading goes on", w.base, "/api/v1/allocations", writer, 200, "")
		temporaltest.Eventually(t, 2*time.Second, func() error {
			if got := w.ask("POST", "/api/v1/allocations", writer, "k2", create("more")); got.text("code") != "insufficient_permissions" {
				return fmt.Errorf("a lost role: answered %d %s", got.status, got.body)
			}
			return nil
		})
		w.exec(`UPDATE tenant_members SET role = 'member' WHERE user_id = $1`, clientID)
	})

	t.Run("secrets rotate with an overlap", func(t *testing.T) {
		rotatingID, first := w.account(alice, "rotating", "viewer")
		secrets := "/api/v1/service-accounts/" + rotatingID + "/secrets"
		second := w.ask("POST", secrets, alice, "rotate-1", `{"overlap_seconds":3600}`)
		again := w.ask("POST", secrets, alice, "rotate-1", `{"overlap_seconds":3600}`)
		if again.text("client_secret") != second.text("client_secret") || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("a repeat made another secret: %s", again.body)
		}
		w.want(w.ask("POST", secrets, alice, "rotate-1", `{"overlap_seconds":1}`), 409, "idempotency_conflict")
		for name, secret := range map[string]string{"the old": first, "the new": second.text("client_secret")} {
			if got := w.exchange(rotatingID, secret, ""); got.status != 200 {
				t.Errorf("%s secret within the overlap: %d %s", name, got.status, got.body)
			}
		}
		third := w.ask("POST", secrets, alice, "", `{"overlap_seconds":0}`)
		for _, secret := range []string{first, second.text("client_secret")} {
			w.want(w.exchange(rotatingID, secret, ""), 401, "token_invalid")
		}
		if got := w.exchange(rotatingID, third.text("client_secret"), ""); got.status != 200 {
			t.Errorf("the newest secret: %d %s", got.status, got.body)
		}
		if shown := w.ask("GET", "/api/v1/service-accounts/"+rotatingID, alice, "", ""); strings.Count(string(shown.body), `"cred_`) != 1 || bytes.Contains(shown.body, []byte("gpuaas_sas_")) {
			t.Errorf("the account shows %s", shown.body)
		}
	})

	t.Run("who may make one", func(t *testing.T) {
		w.join("mia", "alice", "member")
		w.join("adam", "alice", "admin")
		tenant := w.field(`SELECT tenant_id FROM users WHERE username = 'alice'`)
		body := func(name, role string) string {
			return `{"name":"` + name + `","role":"` + role + `","tenant_id":"` + tenant + `"}`
		}
		w.want(w.ask("POST", "/api/v1/service-accounts", w.token("mia"), "", body("a", "viewer")), 403, "insufficient_permissions")
		w.want(w.ask("POST", "/api/v1/service-accounts", w.token("eve"), "", body("a", "viewer")), 404, "tenant_not_found")
		w.want(w.ask("POST", "/api/v1/service-accounts", w.token("adam"), "", body("a", "owner")), 422, "validation_error")
		w.want(w.ask("POST", "/api/v1/service-accounts", w.token("adam"), "", body("nightly", "viewer")), 409, "service_account_already_exists")
		if made := w.ask("POST", "/api/v1/service-accounts", w.token("adam"), "once", body("adams", "admin")); made.status != 201 {
			t.Errorf("an admin is answered %d %s", made.status, made.body)
		}
		w.want(w.get(w.base, "/api/v1/service-accounts/"+clientID, w.token("eve")), 404, "service_account_not_found")
		w.want(w.get(w.base, "/api/v1/service-accounts?tenant_id="+tenant, w.token("mia")), 403, "insufficient_permissions")
		if refused := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'createServiceAccount' AND result = 'refused'
			AND actor_user_id = (SELECT id FROM users WHERE username = 'mia')`); refused != "1" {
			t.Errorf("%s refusals stand in the audit log", refused)
		}
		if _, err := w.Owner.Exec(t.Context(), `UPDATE tenant_members SET role = 'owner' WHERE user_id = $1`, clientID); err == nil {
			t.Error("a service account owns a tenant")
		}
		project := w.field(`SELECT id FROM projects WHERE tenant_id = $1 AND is_default`, tenant)
		made := w.ask("POST", "/api/v1/service-accounts", alice, "", `{"name":"of-a-project","role":"admin","project_id":"`+project+`"}`)
		minted := w.ask("POST", "/api/v1/service-accounts/"+made.text("id")+"/secrets", alice, "", `{}`)
		token := w.exchange(made.text("id"), minted.text("client_secret"), "")
		if scope := token.text("scope"); strings.Contains(scope, "billing") || !strings.Contains(scope, "allocations:manage") {
			t.Errorf("a project's admin is given %q (made %d %s, minted %d %s, token %d %s)", scope, made.status, made.body, minted.status, minted.body, token.status, token.body)
		}
		if seen := w.get(w.base, "/api/v1/allocations?project_id="+project, token.text("access_token")); seen.status != 200 {
			t.Errorf("a project's program sees %d %s", seen.status, seen.body)
		}
	})

	var written bytes.Buffer
	var writing sync.Mutex
	second := w.replica(slog.New(slog.NewJSONHandler(lockedWriter{&writing, &written}, &slog.HandlerOptions{Level: slog.LevelDebug})))
	temporaltest.Eventually(t, time.Minute, func() error {
		if ready := w.send(second, "GET", "/readyz", "", nil); ready.status != 200 {
			return fmt.Errorf("the second replica is not ready: %s", ready.body)
		}
		return nil
	})

	t.Run("an end counts at once on every replica", func(t *testing.T) {
		endingID, secret := w.account(alice, "ending", "member")
		token := w.exchange(endingID, secret, "").text("access_token")
		everywhere := func(what string, status int, code string) {
			t.Helper()
			for _, base := range []string{w.base, second} {
				w.soon(what, base, "/api/v1/allocations", token, status, code)
			}
		}
		account := "/api/v1/service-accounts/" + endingID
		everywhere("a live token", 200, "")
		w.ask("PATCH", account, alice, "", `{"disabled":true}`)
		everywhere("a disabled account", 401, "token_invalid")
		w.want(w.exchange(endingID, secret, ""), 401, "token_invalid")
		w.ask("PATCH", account, alice, "", `{"disabled":false}`)
		everywhere("an enabled account", 200, "")
		w.exec(`UPDATE users SET status = 'suspended' WHERE id = $1`, endingID)
		everywhere("a suspended account", 403, "user_suspended")
		w.want(w.exchange(endingID, secret, ""), 403, "user_suspended")
		w.exec(`UPDATE users SET status = 'active' WHERE id = $1`, endingID)
		everywhere("an account that is back", 200, "")
		secretID := w.field(`SELECT id FROM credentials WHERE user_id = $1 AND kind = 'secret'`, endingID)
		w.want(w.ask("DELETE", account+"/secrets/"+string(randomID[id.Credential]()), alice, "", ""), 404, "token_not_found")
		if revoked := w.ask("DELETE", account+"/secrets/"+secretID, alice, "", ""); revoked.status != 200 {
			t.Fatalf("revocation is answered %d %s", revoked.status, revoked.body)
		}
		everywhere("a revoked secret", 401, "token_invalid")
		w.want(w.exchange(endingID, secret, ""), 401, "token_invalid")

		timely := w.exchange(clientID, clientSecret, "").text("access_token")
		w.exec(`UPDATE credentials SET expires_at = now() + interval '1 second' WHERE sha256 = sha256($1::text::bytea)`, timely)
		w.soon("a token in its last second", w.base, "/api/v1/allocations", timely, 200, "")
		w.soon("a token whose time is over, remembered or not", w.base, "/api/v1/allocations", timely, 401, "token_expired")
	})

	t.Run("a thousand uses are a few writes", func(t *testing.T) {
		token := w.exchange(clientID, clientSecret, "").text("access_token")
		w.exec(`CREATE TABLE uses (at timestamptz)`)
		w.exec(`CREATE FUNCTION count_use() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO uses VALUES (NEW.last_used_at); RETURN NULL; END $$`)
		w.exec(`CREATE TRIGGER counted AFTER UPDATE OF last_used_at ON credentials FOR EACH ROW EXECUTE FUNCTION count_use()`)
		began := time.Now()
		var using sync.WaitGroup
		for worker := range 20 {
			using.Go(func() {
				for range 50 {
					if got := w.get([]string{w.base, second}[worker%2], "/api/v1/me", token); got.status != 200 {
						t.Errorf("answered %d %s", got.status, got.body)
						return
					}
				}
			})
		}
		using.Wait()
		minutes := int(time.Since(began)/time.Minute) + 2
		var writes int
		if err := w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM uses`).Scan(&writes); err != nil {
			t.Fatal(err)
		}
		if writes < 1 || writes > 2*minutes {
			t.Errorf("a thousand uses were %d writes", writes)
		}
		if got := w.field(`SELECT (last_used_at = date_trunc('minute', last_used_at))::text FROM credentials WHERE sha256 = sha256($1::text::bytea)`, token); got != "true" {
			t.Errorf("the last use is kept more exactly than to the minute")
		}
	})

	t.Run("no secret is kept or written down", func(t *testing.T) {
		token := w.exchange(clientID, clientSecret, "").text("access_token")
		personal := w.ask("POST", "/api/v1/tokens", alice, "kept?", `{"name":"laptop","scopes":["allocations:read"]}`).text("token")
		w.get(second, "/api/v1/me?token="+token, token)
		w.get(second, "/api/v1/allocations", personal)
		w.send(second, "POST", "/api/v1/auth/token", `{"grant_type":"client_credentials","client_id":"`+clientID+`","client_secret":"`+clientSecret+`x"}`,
			map[string]string{"Content-Type": "application/json"})
		tables, err := w.Owner.Query(t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for tables.Next() {
			var name string
			if err := tables.Scan(&name); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		if len(names) < 20 {
			t.Fatalf("only %v were looked through", names)
		}
		writing.Lock()
		logged := written.String()
		writing.Unlock()
		if !strings.Contains(logged, "/api/v1/auth/token") {
			t.Fatalf("the log tells of nothing: %s", logged)
		}
		for _, secret := range []string{clientSecret, token, personal} {
			for _, name := range names {
				var found int
				if err := w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM `+name+` AS row WHERE position($1 in row::text) > 0 OR position(encode($1::text::bytea, 'hex') in row::text) > 0`, secret).Scan(&found); err != nil || found > 0 {
					t.Errorf("%d rows of %s hold a secret, %v", found, name, err)
				}
			}
			if strings.Contains(logged, secret) {
				t.Errorf("the log holds a secret")
			}
		}
	})
}

type lockedWriter struct {
	mutex *sync.Mutex
	to    io.Writer
}

func (l lockedWriter) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.to.Write(line)
}

func TestAPersonalTokenIsNeverMoreThanItsMaker(t *testing.T) {
	w := newWorld(t, 0)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	mint := func(token, key, body string) reply {
		t.Helper()
		return w.ask("POST", "/api/v1/tokens", token, key, body)
	}
	made := mint(alice, "k1", `{"name":"laptop","scopes":["profile:write","allocations:read","profile:read"],"expires_in_seconds":3600}`)
	if made.status != 201 || !strings.HasPrefix(made.text("token"), "gpuaas_api_") {
		t.Fatalf("a token is answered %d %s", made.status, made.body)
	}
	laptop := made.text("token")
	if again := mint(alice, "k1", `{"expires_in_seconds":3600,"name":"laptop","scopes":["profile:write","allocations:read","profile:read"]}`); again.text("token") != laptop || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeat is answered %s", again.body)
	}
	w.want(mint(alice, "k1", `{"name":"other","scopes":["profile:read"]}`), 409, "idempotency_conflict")
	listed := w.ask("GET", "/api/v1/tokens", laptop, "", "")
	if listed.status != 200 || !strings.Contains(string(listed.body), made.text("id")) || strings.Contains(string(listed.body), "gpuaas_api_") {
		t.Errorf("the list is %d %s", listed.status, listed.body)
	}
	if seen := w.get(w.base, "/api/v1/allocations", laptop); seen.status != 200 {
		t.Errorf("within its scopes: %d %s", seen.status, seen.body)
	}
	w.want(w.ask("POST", "/api/v1/allocations", laptop, "k", create("train")), 403, "token_scope_invalid")
	w.want(w.get(w.base, "/api/v1/skus", laptop), 403, "token_scope_invalid")

	w.want(mint(alice, "", `{"name":"x","scopes":["platform:write"]}`), 403, "token_scope_invalid")
	w.want(mint(alice, "", `{"name":"x","scopes":["allocations:eat"]}`), 422, "validation_error")
	w.want(mint(alice, "", `{"name":"x","scopes":[]}`), 422, "validation_error")
	w.want(mint(alice, "", `{"name":" x","scopes":["profile:read"]}`), 422, "validation_error")
	w.want(mint(alice, "", `{"name":"x","scopes":["profile:read"],"expires_in_seconds":31536000}`), 422, "validation_error")
	if root := mint(w.token("root", "admin"), "", `{"name":"x","scopes":["platform:read"]}`); root.status != 201 {
		t.Errorf("an operator is answered %d %s", root.status, root.body)
	} else if users := w.get(w.base, "/api/v1/admin/users", root.text("token")); users.status != 200 {
		t.Errorf("an operator's token sees %d %s", users.status, users.body)
	}

	// A token makes none that is wider or lives longer, and takes with it what it made.
	w.want(mint(laptop, "", `{"name":"x","scopes":["allocations:write"]}`), 403, "token_scope_invalid")
	w.want(mint(laptop, "", `{"name":"x","scopes":["allocations:read"],"expires_in_seconds":7200}`), 422, "validation_error")
	w.want(w.ask("POST", "/api/v1/service-accounts", laptop, "", `{"name":"x","role":"viewer"}`), 403, "token_scope_invalid")
	narrow := mint(alice, "", `{"name":"narrow","scopes":["service_accounts:write"]}`).text("token")
	w.want(w.ask("POST", "/api/v1/service-accounts", narrow, "", `{"name":"x","role":"viewer"}`), 403, "insufficient_permissions")
	child := mint(laptop, "", `{"name":"child","scopes":["profile:write","allocations:read"]}`)
	if child.status != 201 || child.text("expires_at") != made.text("expires_at") {
		t.Fatalf("a token's token is answered %d %s", child.status, child.body)
	}
	grandchild := mint(child.text("token"), "", `{"name":"grandchild","scopes":["allocations:read"]}`).text("token")
	for _, token := range []string{child.text("token"), grandchild} {
		w.soon("a token's token", w.base, "/api/v1/allocations", token, 200, "")
	}
	mallory := w.token("mallory")
	w.want(w.ask("DELETE", "/api/v1/tokens/"+made.text("id"), mallory, "", ""), 404, "token_not_found")
	if revoked := w.ask("DELETE", "/api/v1/tokens/"+made.text("id"), alice, "", ""); revoked.status != 200 || revoked.text("revoked_at") == "" {
		t.Fatalf("revocation is answered %d %s", revoked.status, revoked.body)
	}
	for _, token := range []string{laptop, child.text("token"), grandchild} {
		w.soon("a revoked token and what it made", w.base, "/api/v1/allocations", token, 401, "token_invalid")
	}
	actions := w.field(`SELECT string_agg(DISTINCT action, ' ' ORDER BY action) FROM audit_logs WHERE target_type = 'token' AND result = 'success'`)
	if !slices.Equal(strings.Fields(actions), []string{"token.create", "token.revoke"}) {
		t.Errorf("the audit log tells of %q", actions)
	}
}
