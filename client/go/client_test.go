package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// seen is what the server got of one attempt.
type seen struct {
	method, key, token, body string
	at                       time.Time
}

// platform answers each attempt by the next of its answers, and the last one for ever.
type platform struct {
	t       *testing.T
	mutex   sync.Mutex
	seen    []seen
	answers []http.HandlerFunc
}

func serve(t *testing.T, answers ...http.HandlerFunc) (*platform, string) {
	t.Helper()
	p := &platform{t: t, answers: answers}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
	}
	p.mutex.Lock()
	p.seen = append(p.seen, seen{r.Method, r.Header.Get("X-Idempotency-Key"), r.Header.Get("Authorization"), string(body), time.Now()})
	answer := p.answers[min(len(p.seen), len(p.answers))-1]
	p.mutex.Unlock()
	answer(w, r)
}

func refuse(status int, code string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"code":%q,"message":"No.","correlation_id":"c1","details":{}}`, code)
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// drop does the work and ends the connection before anything is answered.
func drop(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = connection.Close()
	}
}

// quick are bounds under which a test need not wait.
var quick = client.Retries{Attempts: 4, FirstDelay: time.Millisecond, LongestDelay: 5 * time.Millisecond, Total: 10 * time.Second}

func connect(t *testing.T, url string, retries client.Retries) *client.ClientWithResponses {
	t.Helper()
	api, err := client.ConnectWith(url, client.StaticToken("t1"), nil, retries)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func TestWhatMayBeRepeatedIsRepeated(t *testing.T) {
	for name, test := range map[string]struct {
		answers  []http.HandlerFunc
		attempts int
		code     fault.Code
	}{
		"success at once":             {[]http.HandlerFunc{answer(200, `{"items":[]}`)}, 1, ""},
		"two failures, then success":  {[]http.HandlerFunc{refuse(503, "service_unavailable"), refuse(502, "upstream_error"), answer(200, `{"items":[]}`)}, 3, ""},
		"too many requests, at once":  {[]http.HandlerFunc{refuse(429, "rate_limit_exceeded", "Retry-After", "0"), answer(200, `{"items":[]}`)}, 2, ""},
		"a dropped connection":        {[]http.HandlerFunc{drop, drop, answer(200, `{"items":[]}`)}, 3, ""},
		"a proxy without a code":      {[]http.HandlerFunc{answer(504, "<html>"), answer(200, `{"items":[]}`)}, 2, ""},
		"a refusal for good":          {[]http.HandlerFunc{refuse(403, "admin_required")}, 1, fault.AdminRequired},
		"a conflict that passes":      {[]http.HandlerFunc{refuse(409, "idempotency_in_flight"), answer(200, `{"items":[]}`)}, 2, ""},
		"a conflict for good":         {[]http.HandlerFunc{refuse(409, "idempotency_conflict")}, 1, fault.IdempotencyConflict},
		"our own fault":               {[]http.HandlerFunc{refuse(500, "internal_error")}, 1, fault.InternalError},
		"never any better":            {[]http.HandlerFunc{refuse(503, "service_unavailable")}, 4, fault.ServiceUnavailable},
		"longer than there is time":   {[]http.HandlerFunc{refuse(429, "rate_limit_exceeded", "Retry-After", "3600")}, 1, fault.RateLimitExceeded},
		"a date that is too far away": {[]http.HandlerFunc{refuse(429, "rate_limit_exceeded", "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))}, 1, fault.RateLimitExceeded},
		"a date that has passed":      {[]http.HandlerFunc{refuse(429, "rate_limit_exceeded", "Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)), answer(200, `{"items":[]}`)}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, url := serve(t, test.answers...)
			response, err := connect(t, url, quick).ListSkusWithResponse(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			err = client.Check(response.HTTPResponse, response.Body)
			if (test.code == "") != (err == nil) || (test.code != "" && !errors.Is(err, test.code)) {
				t.Errorf("it ends with %v, not %q", err, test.code)
			}
			if len(p.seen) != test.attempts {
				t.Errorf("%d attempts, not %d", len(p.seen), test.attempts)
			}
		})
	}
}

// The work of the first attempt was done when its connection broke: the second one carries the same key and the same body.
func TestAMutationIsRepeatedUnderTheSameKey(t *testing.T) {
	for name, key := range map[string]string{"the caller's own": "mine", "one that the client makes": ""} {
		t.Run(name, func(t *testing.T) {
			p, url := serve(t, drop, refuse(503, "service_unavailable"), answer(201, `{}`))
			api := connect(t, url, quick)
			for range 2 {
				response, err := api.CreateAllocation(t.Context(), &client.CreateAllocationParams{XIdempotencyKey: key}, client.CreateAllocationJSONRequestBody{SKU: "h100-8x"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := client.Read(response); err != nil {
					t.Fatal(err)
				}
			}
			if len(p.seen) != 4 {
				t.Fatalf("%d attempts", len(p.seen))
			}
			first := p.seen[0]
			if first.key == "" || (key != "" && first.key != key) || first.body == "" {
				t.Errorf("the first attempt carries the key %q and the body %q", first.key, first.body)
			}
			for _, again := range p.seen[1:3] {
				if again.key != first.key || again.body != first.body {
					t.Errorf("an attempt carries the key %q and the body %q, the first one %q and %q", again.key, again.body, first.key, first.body)
				}
			}
			if next := p.seen[3]; key == "" && next.key == first.key {
				t.Error("another call carries the same key")
			}
		})
	}
}

func TestAReadCarriesNoKey(t *testing.T) {
	p, url := serve(t, answer(200, `{"items":[]}`))
	if _, err := connect(t, url, quick).ListSkus(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if p.seen[0].key != "" || p.seen[0].token != "Bearer t1" {
		t.Errorf("it carries the key %q and %q", p.seen[0].key, p.seen[0].token)
	}
}

func TestTheServersTimeIsWaitedFor(t *testing.T) {
	p, url := serve(t, refuse(429, "rate_limit_exceeded", "Retry-After", "1"), answer(200, `{"items":[]}`))
	if _, err := connect(t, url, quick).ListSkus(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if waited := p.seen[1].at.Sub(p.seen[0].at); len(p.seen) != 2 || waited < time.Second {
		t.Errorf("%d attempts, the second after %s", len(p.seen), waited)
	}
}

func TestAContextEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("nobody waits any more")
	p, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		refuse(503, "service_unavailable", "Retry-After", "5")(w, r)
		cancel(reason)
	})
	begun := time.Now()
	_, err := connect(t, url, quick).ListSkus(ctx, nil)
	if err == nil || time.Since(begun) > 4*time.Second || len(p.seen) != 1 {
		t.Errorf("it ends with %v after %s and %d attempts", err, time.Since(begun), len(p.seen))
	}
}

func TestNobodyListensIsAnErrorAfterAllAttempts(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if _, err := connect(t, server.URL, quick).ListSkus(t.Context(), nil); err == nil {
		t.Error("it succeeds")
	}
}

// A token that ran out is replaced once; a source that has no other one is not asked for ever.
func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		tokens   []string
		attempts int
		code     fault.Code
	}{
		"another one":          {[]string{"old", "new"}, 2, ""},
		"none":                 {[]string{"old", "old"}, 1, fault.TokenExpired},
		"another one, refused": {[]string{"old", "older", "oldest"}, 2, fault.TokenExpired},
	} {
		t.Run(name, func(t *testing.T) {
			p, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer new" {
					answer(200, `{"items":[]}`)(w, r)
					return
				}
				refuse(401, "token_expired")(w, r)
			})
			asked := 0
			source := func(context.Context) (string, error) {
				asked++
				return test.tokens[min(asked, len(test.tokens))-1], nil
			}
			api, err := client.ConnectWith(url, source, nil, quick)
			if err != nil {
				t.Fatal(err)
			}
			response, err := api.ListSkus(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = client.Read(response); (test.code == "") != (err == nil) || (test.code != "" && !errors.Is(err, test.code)) || len(p.seen) != test.attempts {
				t.Errorf("%d attempts, the end is %v", len(p.seen), err)
			}
		})
	}
}

func TestAListIsReadToItsEnd(t *testing.T) {
	_, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		list := map[string]any{"items": []map[string]any{{"id": fmt.Sprintf("tenant-%d", page)}}}
		if page < 2 {
			list["next_cursor"] = strconv.Itoa(page + 1)
		}
		if page == 3 {
			refuse(422, "validation_error")(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	})
	api := connect(t, url, quick)
	list := func(first *string) (found []string, err error) {
		for account, err := range client.Each[client.Account](t.Context(), func(ctx context.Context, cursor *string) (*http.Response, error) {
			if cursor == nil {
				cursor = first
			}
			return api.ListAccounts(ctx, &client.ListAccountsParams{Cursor: cursor})
		}) {
			if err != nil {
				return found, err
			}
			found = append(found, account.ID)
		}
		return found, nil
	}
	if found, err := list(nil); err != nil || len(found) != 3 || found[2] != "tenant-2" {
		t.Errorf("found %q, %v", found, err)
	}
	bad := "3"
	if _, err := list(&bad); !errors.Is(err, fault.ValidationError) {
		t.Errorf("a refused page ends with %v", err)
	}
}

func TestARefusalSaysEverythingThatTheServerSaid(t *testing.T) {
	_, url := serve(t, refuse(429, "rate_limit_exceeded", "Retry-After", "7", "Idempotency-Replayed", "true", "X-Correlation-Id", "c9"))
	response, err := connect(t, url, client.Retries{Attempts: 1}).ListSkus(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Read(response)
	var refusal *client.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("it is %v", err)
	}
	if refusal.HTTPStatus != 429 || !refusal.Retryable() || refusal.RetryAfter != 7*time.Second || !refusal.Replayed || refusal.CorrelationID != "c9" {
		t.Errorf("it is %+v", refusal)
	}
}
