package api

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/temporal"
)

const (
	// temporalUICSRF is the only cookie that Temporal's UI is given: its own.
	temporalUICSRF = "_csrf"
	// temporalUIPolicy holds the pages, which are served beside ours, to this site. The UI has none of its own under a public path. It shows what
	// workflows say of themselves in frames of its own, so it may frame itself.
	temporalUIPolicy = "base-uri 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'self'; object-src 'none'"
)

// temporalUIRule is who may look: operators of the platform. What they see is the platform's, so no tenant is told.
var temporalUIRule = route{operation: "temporalUI", rule: operator(identity.PlatformRead), class: overview}

// temporalQuery is the one request of the UI that is no GET and changes nothing: it asks a workflow how it is. The escaped path is
// matched, so that no name of a workflow stands for more of the path than itself.
var temporalQuery = regexp.MustCompile(`^` + temporal.UIPath + `/api/v1/namespaces/[^/]+/workflows/[^/]+/query/[^/]+$`)

// temporalUI serves Temporal's own UI to signed-in operators, for reading alone: what changes something goes through the
// operations of this API, where it is authorised and audited. Like the sign-in it is a place for browsers and no operation of the contract.
func (s *server) temporalUI() {
	if s.config.TemporalUI == nil {
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { toTemporalUI(request, s.config.TemporalUI) },
		ModifyResponse: func(response *http.Response) error {
			response.Header.Add("Content-Security-Policy", temporalUIPolicy)
			response.Header.Set("Referrer-Policy", "same-origin")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			middleware.WriteFault(w, r, s.config.Log, fault.Wrap(err, fault.UpstreamError, "Temporal's UI does not answer."))
		},
	}
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, err := s.lookingOperator(w, r)
		switch {
		case err == nil:
			proxy.ServeHTTP(w, admitted)
		case wantsToSignIn(r, err):
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, signInPath+"?"+url.Values{"return_to": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
		default:
			middleware.WriteFault(w, r, s.config.Log, err)
		}
	})
	s.mux.Handle(temporal.UIPath, guarded)
	s.mux.Handle(temporal.UIPath+"/", guarded)
}

// lookingOperator admits an operator's request that changes nothing. It is authenticated as the read that it must be, so that the UI's queries
// need no CSRF token of ours. Many files make up a page, so an operator's own budget is not drawn on; that of refused credentials is.
func (s *server) lookingOperator(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if err := s.limits.BeforeSignIn(w, r, temporalUIRule.class); err != nil {
		return r, err
	}
	asked := r.Clone(r.Context())
	asked.Method = http.MethodGet
	admitted, err := s.admitted(w, asked, temporalUIRule.rule.access)
	if err != nil {
		return r, s.limits.SignInRefused(w, r, temporalUIRule.class, err)
	}
	if admitted, err = s.authorise(admitted, temporalUIRule); err != nil {
		return r, err
	}
	if !reads(r) {
		return r, fault.New(fault.MethodNotAllowed, "Temporal's UI is for reading; change a workflow by the operations of this API.")
	}
	admitted.Method = r.Method
	return admitted, nil
}

// reads says whether a request to Temporal's UI changes nothing.
func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || (r.Method == http.MethodPost && temporalQuery.MatchString(r.URL.EscapedPath()))
}

// wantsToSignIn says whether a browser came to a page without a session.
func wantsToSignIn(r *http.Request, err error) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") &&
		(errors.Is(err, fault.TokenMissing) || errors.Is(err, fault.TokenExpired))
}

// toTemporalUI sends a request on without the caller's credentials, which the UI would pass on or log.
func toTemporalUI(request *httputil.ProxyRequest, target *url.URL) {
	request.SetURL(target)
	request.Out.Host = request.In.Host
	request.SetXForwarded()
	for _, name := range []string{"Authorization", "Authorization-Extras", "Cookie"} {
		request.Out.Header.Del(name)
	}
	if own, err := request.In.Cookie(temporalUICSRF); err == nil {
		request.Out.AddCookie(own)
	}
}

// untidy says whether an address is not written as it should be. The root of Temporal's UI may end with a slash.
func untidy(address string) bool {
	return address != path.Clean(address) && address != temporal.UIPath+"/"
}
