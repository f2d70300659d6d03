package api

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

func TestOnlyReadsReachTemporalsUI(t *testing.T) {
	const workflow = temporal.UIPath + "/api/v1/namespaces/gpuaas/workflows/"
	for _, c := range []struct {
		method, path string
		reads        bool
	}{
		{"GET", temporal.UIPath, true},
		{"HEAD", workflow + "a", true},
		{"POST", workflow + "a/query/__temporal_workflow_metadata", true},
		{"POST", workflow + "a%2Fb/query/state", true},
		{"POST", workflow + "a/terminate", false},
		{"POST", workflow + "a/signal/query/x", false},
		{"POST", workflow + "a/query/x/terminate", false},
		{"POST", workflow + "a%2Fquery%2Fx/terminate", false},
		{"PUT", workflow + "a/query/x", false},
		{"DELETE", workflow + "a", false},
		{"OPTIONS", workflow + "a", false},
		{"POST", temporal.UIPath + "/api/v1/namespaces/gpuaas/batch-operations/b", false},
		{"POST", "/api/v1/namespaces/gpuaas/workflows/a/query/x", false},
	} {
		if got := reads(httptest.NewRequest(c.method, c.path, nil)); got != c.reads {
			t.Errorf("%s %s counts as a read: %v", c.method, c.path, got)
		}
	}
}

func TestTemporalsUIGetsNoCredentials(t *testing.T) {
	in := httptest.NewRequest(http.MethodGet, "https://gpuaas.example"+temporal.UIPath+"/a%2Fb?x=1", nil)
	in.Header.Set("Authorization", "Bearer secret")
	in.Header.Set("Authorization-Extras", "secret")
	in.AddCookie(&http.Cookie{Name: "__Host-session", Value: "secret"})
	in.AddCookie(&http.Cookie{Name: "_csrf", Value: "own"})
	request := &httputil.ProxyRequest{In: in, Out: in.Clone(t.Context())}
	toTemporalUI(request, &url.URL{Scheme: "http", Host: "temporal-ui:8080"})
	out := request.Out
	if out.URL.String() != "http://temporal-ui:8080"+temporal.UIPath+"/a%2Fb?x=1" || out.Host != "gpuaas.example" {
		t.Errorf("it goes to %s as %s", out.URL, out.Host)
	}
	for name, values := range out.Header {
		if strings.Contains(strings.Join(values, " "), "secret") {
			t.Errorf("%s carries a credential: %q", name, values)
		}
	}
	if own, err := out.Cookie("_csrf"); err != nil || own.Value != "own" {
		t.Errorf("the UI's own cookie is lost: %v", err)
	}
}
