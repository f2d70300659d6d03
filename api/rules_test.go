package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/schema"
)

func offline(t *testing.T) http.Handler {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	handler, err := New(Config{
		Redis: redistest.Open(t, redistest.Away()), Policy: policy.New(pool),
		Log: log, Now: time.Now, Temporal: func() client.Client { return nil },
		Verifier: oidc.New(oidc.Config{Issuer: "http://127.0.0.1:1", Audiences: []string{"gpuaas-api"}}, http.DefaultClient, time.Now),
	})
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func refusal(t *testing.T, response *http.Response) middleware.Envelope {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	var envelope middleware.Envelope
	if json.Unmarshal(body, &fields) != nil || json.Unmarshal(body, &envelope) != nil {
		t.Fatalf("%d is no envelope: %s", response.StatusCode, body)
	}
	for _, name := range []string{"code", "message", "correlation_id", "details"} {
		if _, present := fields[name]; !present {
			t.Errorf("%s is missing in %s", name, body)
		}
	}
	if len(fields) != 4 || string(fields["details"]) == "null" {
		t.Errorf("the envelope is %s", body)
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("the content type is %q", kind)
	}
	if header := response.Header.Get(middleware.HeaderCorrelationID); header == "" || header != envelope.CorrelationID {
		t.Errorf("the header says %q, the body %q", header, envelope.CorrelationID)
	}
	if envelope.Message == "" {
		t.Error("there is no sentence for a person")
	}
	return envelope
}

func ask(handler http.Handler, method, path, token, body string) *http.Response {
	request := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	// Somebody else each time, or an address would use up what it may ask without a credential.
	request.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", rand.IntN(256), rand.IntN(256), rand.IntN(256))
	if token != "" {
		request.Header.Set("Authorization", token)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer.Result()
}

func TestEveryOperationThatIsNotPublicWantsAToken(t *testing.T) {
	handler := offline(t)
	public := 0
	for _, line := range routes {
		t.Run(line.operation, func(t *testing.T) {
			path := strings.NewReplacer("{", "", "}", "").Replace(line.path)
			if line.rule.access == middleware.Public {
				public++
				if !strings.HasSuffix(line.path, "z") && !strings.HasPrefix(line.path, "/api/v1/auth/") && line.operation != "getResourceMetadata" && line.operation != "listEvidenceKeys" && line.operation != receiveWebhook {
					t.Error("only liveness, readiness, signing in, the keys of evidence and what Stripe signs are public")
				}
				return
			}
			for authorization, want := range map[string]string{"": "token_missing", "Basic eA==": "token_invalid", "Bearer x.y.z": "token_invalid", "Bearer ": "token_invalid"} {
				response := ask(handler, line.method, path, authorization, "")
				if got := refusal(t, response); string(got.Code) != want || response.StatusCode != http.StatusUnauthorized {
					t.Errorf("%q answers %d %s, not 401 %s", authorization, response.StatusCode, got.Code, want)
				}
			}
		})
	}
	if public != 10 {
		t.Errorf("%d operations are public", public)
	}
}

func TestAdminPathsAreForAdminsOnly(t *testing.T) {
	for _, line := range routes {
		if strings.HasPrefix(line.path, "/api/v1/admin/") != (line.rule.access == middleware.AdminOnly) {
			t.Errorf("%s at %s has the access %d", line.operation, line.path, line.rule.access)
		}
	}
}

// What ends a bill or a session, and what shows a bill, is never refused by a limit; what moves money is limited most.
func TestClassesFollowThePromise(t *testing.T) {
	never := map[string]bool{"getHealth": true, "getReadiness": true, "releaseAllocation": true, "forceReleaseAllocation": true, "getBalance": true, "getRunway": true, "getAccountBalance": true,
		"signOut": true}
	for _, line := range routes {
		if (line.class == unlimited) != never[line.operation] {
			t.Errorf("%s has the class %d", line.operation, line.class)
		}
		delete(never, line.operation)
	}
	if len(never) > 0 {
		t.Errorf("there is no line for %v", never)
	}
}

func TestAnOperationWithoutARuleDoesNotStart(t *testing.T) {
	config := Config{Log: slog.New(slog.DiscardHandler)}
	serve := func(table []route) error {
		s := newServer(config, table)
		handle(s, "getHealth", s.getHealth)
		return s.complete()
	}
	sound := route{"getHealth", "GET", "/healthz", public(), unlimited, plain, 200}
	if err := serve([]route{sound}); err != nil {
		t.Fatalf("a sound table is refused: %v", err)
	}
	for name, table := range map[string][]route{
		"no line":          {},
		"no rule":          {{"getHealth", "GET", "/healthz", rule{}, general, plain, 200}},
		"no permission":    {{"getHealth", "GET", "/healthz", rule{access: middleware.SignedIn}, general, plain, 200}},
		"no object":        {{"getHealth", "GET", "/healthz", rule{access: middleware.SignedIn, permission: identity.BillingRead}, general, plain, 200}},
		"a tenant's right": {{"getHealth", "GET", "/healthz", operator(identity.BillingRead), general, plain, 200}},
		"nobody serves a":  {sound, {"deleteAll", "DELETE", "/all", operator(identity.PlatformWrite), general, plain, 200}},
		"no class":         {{"getHealth", "GET", "/healthz", public(), middleware.Unclassed, plain, 200}},
	} {
		if err := serve(table); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}

func TestTheRouterAnswersInTheEnvelope(t *testing.T) {
	handler := offline(t)
	for _, test := range []struct {
		method, path, code string
		status             int
	}{
		{"GET", "/nowhere", "not_found", 404},
		{"GET", "/api/v1/allocations/", "not_found", 404},
		{"DELETE", "/api/v1/allocations", "method_not_allowed", 405},
		{"PATCH", "/healthz", "method_not_allowed", 405},
		{"GET", "/api/v1//allocations", "not_found", 404},
	} {
		response := ask(handler, test.method, test.path, "", "")
		if got := refusal(t, response); string(got.Code) != test.code || response.StatusCode != test.status {
			t.Errorf("%s %s answers %d %s", test.method, test.path, response.StatusCode, got.Code)
		}
		if test.status == 405 && response.Header.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", test.method, test.path)
		}
	}
}

func TestAPanicIsAnInternalError(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	handler := middleware.Correlate(middleware.Log(log, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })))
	response := ask(handler, "GET", "/", "", "")
	if got := refusal(t, response); got.Code != "internal_error" || response.StatusCode != http.StatusInternalServerError || strings.Contains(got.Message, "boom") {
		t.Errorf("it answers %d %+v", response.StatusCode, got)
	}
}

func TestACorrelationIDIsTakenOnlyWhenItIsSane(t *testing.T) {
	handler := offline(t)
	for given, kept := range map[string]bool{"abc-123": true, "a b": false, `x"y`: false, strings.Repeat("x", 65): false, "": false} {
		request := httptest.NewRequestWithContext(context.Background(), "GET", "/healthz", http.NoBody)
		request.Header.Set(middleware.HeaderCorrelationID, given)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		got := answer.Header().Get(middleware.HeaderCorrelationID)
		if (got == given) != kept || got == "" {
			t.Errorf("%q became %q", given, got)
		}
	}
}

func TestTheContractIsServedAsAuthored(t *testing.T) {
	response := ask(offline(t), "GET", contractPath, "", "")
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "operationId: createAllocation") {
		t.Errorf("it answers %d, %v", response.StatusCode, err)
	}
}

func TestTheContractIsServedInJSONAndShownAtDocs(t *testing.T) {
	handler := offline(t)
	response := ask(handler, "GET", contractJSONPath, "", "")
	var served struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(response.Body).Decode(&served); err != nil || served.OpenAPI != "3.1.0" || len(served.Paths) < 25 {
		t.Errorf("%d paths of OpenAPI %q, %v", len(served.Paths), served.OpenAPI, err)
	}
	for path, kind := range map[string]string{"/docs": "text/html", "/docs/start.js": "text/javascript", "/docs/swagger-ui-bundle.js": "text/javascript", "/docs/swagger-ui.css": "text/css"} {
		response := ask(handler, "GET", path, "", "")
		if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), kind) {
			t.Errorf("%s answers %d %s", path, response.StatusCode, response.Header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/docs/", "/docs/x", "/docs/../healthz"} {
		if got := refusal(t, ask(handler, "GET", path, "", "")); got.Code != "not_found" {
			t.Errorf("%s answers %s", path, got.Code)
		}
	}
}

func TestReachableFollowsTheArrows(t *testing.T) {
	for _, test := range []struct {
		from, to allocation.State
		want     bool
	}{
		{allocation.Requested, allocation.Active, true},
		{allocation.Releasing, allocation.Active, false},
		{allocation.ReleaseFailed, allocation.Released, true},
		{allocation.Failed, allocation.Released, false},
		{allocation.Active, allocation.Active, true},
	} {
		if got := reachable(test.from, test.to); got != test.want {
			t.Errorf("%s → %s is %v", test.from, test.to, got)
		}
	}
}

func TestSSHKeysAreCheckedAndStripped(t *testing.T) {
	const good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2xX2C3RQXxRQkxDBWPLaUlbbOPzxHPkrKNPULV0Pqv"
	kept, err := checkSSHKeys([]publicKey{good + " me@example.com", "  " + good}, 5)
	if err != nil || len(kept) != 1 || kept[0] != good {
		t.Errorf("kept %q, %v", kept, err)
	}
	for name, key := range map[string]publicKey{
		"options":     `command="id" ` + good,
		"two lines":   good + "\n" + good,
		"rubbish":     "ssh-ed25519 AAAA",
		"private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
		"dsa":         "ssh-dss AAAAB3NzaC1kc3MAAACBAP1/U4EddRIpUt9KnC7s5Of2EbdSPO9EAMMeP4C2USZpRV1AIlH7WT2NWPq/xfW6MPbLm1Vs14E7gB00b/JmYLdrmVClpJ+f6AR7ECLCT7up1/63xhv4O1fnxqimFQ8E+4P208UewwI1VBNaFpEy9nXzrith1yrv8iIDGZ3RSAHHAAAAFQCXYFCPFSMLzLKSuYKi64QL8Fgc9QAAAIEA9+GghdabPd7LvKtcNrhXuXmUr7v6OuqC+VdMCz0HgmdRWVeOutRZT+ZxBxCBgLRJFnEj6EwoFhO3zwkyjMim4TwWeotUfI0o4KOuHiuzpnWRbqN/C/ohNWLx+2J6ASQ7zKTxvqhRkImog9/hWuWfBpKLZl6Ae1UlZAFMO/7PSSoAAACBAKKSU2PFl/qOLxIwmBZPPIcJshVe7bVUpFvyl3BbJDow8rXfskl8wO63OzP/qLmcJM0+JbcRU/53JjTuyk31drV2qxhIOsLDC9dGCWj47Y7TyhPdXh/0dthTRBy6bqGtRPxGa7gJov1xm/UuYYXPIUR/3x9MAZvZ5xvE0kYXO+rx",
		"empty":       "   ",
	} {
		if _, err := checkSSHKeys([]publicKey{key}, 5); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := checkSSHKeys([]publicKey{good, good, good}, 2); err == nil {
		t.Error("too many are accepted")
	}
}

// Whoever names an object or a tenant that is not theirs is told that there is none; the contract of the operation has to say so.
func TestEveryMissingObjectIsInTheContract(t *testing.T) {
	var contract struct {
		Paths map[string]map[string]struct {
			Codes []fault.Code `yaml:"x-error-codes"`
		}
	}
	if err := yaml.Unmarshal(schema.OpenAPI, &contract); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, line := range routes {
		if missing := line.rule.about.missing; missing != "" {
			asked++
			if codes := contract.Paths[line.path][strings.ToLower(line.method)].Codes; !slices.Contains(codes, missing) {
				t.Errorf("%s answers %s, and its x-error-codes are %v", line.operation, missing, codes)
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d operations are about an object", asked)
	}
}
