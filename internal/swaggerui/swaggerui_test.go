package swaggerui_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/internal/swaggerui"
)

func pages(t *testing.T) map[string]*httptest.ResponseRecorder {
	t.Helper()
	handlers, err := swaggerui.Handlers()
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]*httptest.ResponseRecorder{}
	for path, handler := range handlers {
		answers[path] = httptest.NewRecorder()
		handler.ServeHTTP(answers[path], httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	}
	return answers
}

var loads = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

func TestThePageLoadsOnlyWhatIsServedBesideIt(t *testing.T) {
	answers := pages(t)
	asked := loads.FindAllStringSubmatch(answers[swaggerui.Path].Body.String(), -1)
	if len(asked) != 4 {
		t.Fatalf("the page loads %q", asked)
	}
	for _, one := range asked {
		answer, served := answers[one[1]]
		if !served || answer.Code != http.StatusOK || answer.Body.Len() == 0 {
			t.Errorf("%s is not served", one[1])
		}
	}
	for path, answer := range answers {
		if answer.Header().Get("Content-Type") == "" || answer.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s is served with %v", path, answer.Header())
		}
	}
}

// What runs or loads in the page is bound to its own origin by the page's policy; the style sheet brings its pictures along.
func TestNothingComesFromAnotherHost(t *testing.T) {
	answers := pages(t)
	policy := answers[swaggerui.Path].Header().Get("Content-Security-Policy")
	for _, allowed := range regexp.MustCompile(`'[a-z-]+'|[a-z]+:|\*|https?:\S*`).FindAllString(policy, -1) {
		if allowed != "'self'" && allowed != "'none'" && allowed != "data:" {
			t.Errorf("the policy lets in %s", allowed)
		}
	}
	if !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	elsewhere := regexp.MustCompile(`(?i)(?:url\(\s*["']?|@import\s+["']?|src=["']?|href=["']?)(?:https?:)?//`)
	for _, path := range []string{swaggerui.Path, "/docs/swagger-ui.css", "/docs/start.js"} {
		if found := elsewhere.FindString(answers[path].Body.String()); found != "" {
			t.Errorf("%s loads %s", path, found)
		}
	}
	if !strings.Contains(answers["/docs/start.js"].Body.String(), "validatorUrl: null") {
		t.Error("the contract would be sent to a validator elsewhere")
	}
}

func TestAssetsAreCompressedForWhoTakesItAndKeptByTag(t *testing.T) {
	handlers, err := swaggerui.Handlers()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(header ...string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/docs/swagger-ui-bundle.js", http.NoBody)
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		answer := httptest.NewRecorder()
		handlers["/docs/swagger-ui-bundle.js"].ServeHTTP(answer, request)
		return answer
	}
	whole, packed := ask(), ask("Accept-Encoding", "gzip, br")
	if packed.Header().Get("Content-Encoding") != "gzip" || whole.Header().Get("Content-Encoding") != "" || packed.Body.Len()*2 > whole.Body.Len() {
		t.Errorf("plain %d bytes, compressed %d bytes", whole.Body.Len(), packed.Body.Len())
	}
	if again := ask("If-None-Match", whole.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("asked again with its tag it answers %d", again.Code)
	}
}
