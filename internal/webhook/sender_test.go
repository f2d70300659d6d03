package webhook_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/webhook"
)

var (
	loopback = rules.Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	secret   = [32]byte{1, 2, 3, 4}
)

const body = `{"type":"provisioning.active"}`

func send(t *testing.T, guard rules.Guard, roots *x509.CertPool, url string) webhook.Result {
	t.Helper()
	return webhook.NewSender(guard, roots, time.Now).Send(t.Context(), webhook.Message{
		URL: url, ID: "0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10", Body: []byte(body), Secrets: [][]byte{secret[:]}, AllowHTTP: true, Timeout: 20 * time.Second, MostResponse: 64,
	})
}

// The example of the specification of Standard Webhooks.
func TestASignatureIsThatOfTheSpecification(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := webhook.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`), [][]byte{key, key})
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got != want+" "+want {
		t.Errorf("it is %s", got)
	}
}

func TestWhatIsSentIsVerifiedByTheStandardLibrary(t *testing.T) {
	verifier, err := standard.NewWebhook(webhook.SecretText(secret))
	if err != nil {
		t.Fatal(err)
	}
	var received atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := make([]byte, len(body)+1)
		n, _ := r.Body.Read(text)
		if err := verifier.Verify(text[:n], r.Header); err != nil || string(text[:n]) != body {
			t.Errorf("%s is not verified: %v", text[:n], err)
		}
		if verifier.Verify([]byte(strings.Replace(body, "active", "failed", 1)), r.Header) == nil {
			t.Error("a changed body is verified")
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		received.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	result := send(t, loopback, roots, server.URL)
	if result.Outcome != rules.Accepted || result.StatusCode != http.StatusNoContent || received.Load() != 1 || result.StartedAt.IsZero() || result.Latency <= 0 {
		t.Errorf("it came to %+v, received %d times", result, received.Load())
	}
	if result := send(t, loopback, nil, server.URL); result.Outcome != rules.TLSFailed || received.Load() != 1 {
		t.Errorf("a certificate that nobody vouches for: %+v", result)
	}
}

func TestWhatComesOfAnAttempt(t *testing.T) {
	var elsewhere atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer target.Close()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/accepts":
			_, _ = w.Write([]byte("fine"))
		case "/breaks":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("no\x00\x1b[31m: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"))
		case "/redirects":
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		case "/talks": // for as long as anybody listens
			w.WriteHeader(http.StatusOK)
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat("x", 1<<10))); err != nil {
					return
				}
			}
		case "/boasts":
			for i := range 64 {
				w.Header().Add("X-Long", strings.Repeat(string(rune('a'+i%26)), 1<<10))
			}
		case "/hangs up":
			panic(http.ErrAbortHandler)
		case "/sleeps":
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		}
	}))
	defer server.Close()
	defer close(ended)
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, test := range map[string]struct {
		url      string
		outcome  rules.Outcome
		status   int
		response string
	}{
		"accepts":                {server.URL + "/accepts", rules.Accepted, 200, "fine"},
		"breaks":                 {server.URL + "/breaks", rules.Rejected, 500, "no[31m: Bearer [REDACTED]"},
		"redirects":              {server.URL + "/redirects", rules.Redirected, 307, ""},
		"talks":                  {server.URL + "/talks", rules.Accepted, 200, strings.Repeat("x", 64)},
		"boasts":                 {server.URL + "/boasts", rules.Unreachable, 0, ""},
		"hangs up":               {server.URL + "/hangs%20up", rules.Unreachable, 0, ""},
		"nobody listens":         {closed.URL, rules.Unreachable, 0, ""},
		"no TLS":                 {strings.Replace(server.URL, "http:", "https:", 1), rules.TLSFailed, 0, ""},
		"a scheme that is not":   {"gopher://127.0.0.1/", rules.SchemeRefused, 0, ""},
		"a name that is nothing": {"http://nothing.invalid/", rules.Unresolved, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			result := send(t, loopback, nil, test.url)
			if result.Outcome != test.outcome || result.StatusCode != test.status || result.Response != test.response {
				t.Errorf("it comes to %+v", result)
			}
			if result.Outcome != rules.Accepted && result.Outcome != rules.Rejected && result.Detail == "" {
				t.Error("nothing is said of why")
			}
		})
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
	slow := webhook.NewSender(loopback, nil, time.Now).Send(t.Context(), webhook.Message{URL: server.URL + "/sleeps", AllowHTTP: true, Timeout: 50 * time.Millisecond})
	if slow.Outcome != rules.TimedOut || slow.Latency > 10*time.Second {
		t.Errorf("one that sleeps comes to %+v", slow)
	}
}

// The guard stands where the connection is made: whatever name leads to a refused address, nobody is reached there.
func TestNobodyIsReachedBehindTheGuard(t *testing.T) {
	var reached atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	t.Setenv("HTTP_PROXY", server.URL) // a proxy would dial for us
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.1", "0.0.0.0", "[::1]", "[::]", "169.254.169.254"} {
		result := send(t, rules.Guard{}, nil, "http://"+host+port+"/latest/meta-data")
		if result.Outcome != rules.AddressRefused && (host != "127.1" || result.Outcome != rules.Unresolved) {
			t.Errorf("%s comes to %+v", host, result)
		}
		if strings.Contains(result.Detail, "127.") {
			t.Errorf("the customer is told what the name leads to: %s", result.Detail)
		}
	}
	if reached.Load() != 0 {
		t.Errorf("it was reached %d times", reached.Load())
	}
	if result := send(t, loopback, nil, "http://localhost"+port); result.Outcome != rules.Accepted {
		t.Errorf("what is allowed comes to %+v", result)
	}
}

func TestHTTPIsRefusedUnlessAllowed(t *testing.T) {
	var reached atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	result := webhook.NewSender(loopback, nil, time.Now).Send(context.Background(), webhook.Message{URL: server.URL, Timeout: time.Second})
	if result.Outcome != rules.SchemeRefused || reached.Load() != 0 {
		t.Errorf("it comes to %+v", result)
	}
}
