package api

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/oidc"
)

// The two addresses that a browser is sent to. They answer with a redirect and no body, and so are no operations of the
// contract.
const (
	signInPath = "/api/v1/auth/signin"
	// CallbackPath must be registered with the issuer, below the public URL.
	CallbackPath = "/api/v1/auth/callback"
)

const (
	// attemptLife is how long a person may take with the issuer's pages.
	attemptLife   = 10 * time.Minute
	attemptPrefix = "signin_"
	// attemptName is how much of the state names the cookie, so that two tabs may sign in side by side.
	attemptName     = 8
	longestReturnTo = 2048
)

// attempt is what the browser keeps, sealed, while it is away at the issuer.
type attempt struct {
	oidc.Attempt

	ReturnTo string    `json:"return_to"`
	Until    time.Time `json:"until"`
}

func (s *server) signInPages() {
	s.mux.HandleFunc("GET "+signInPath, s.page(s.beginSignIn))
	s.mux.HandleFunc("GET "+CallbackPath, s.page(s.endSignIn))
}

// page answers with where the browser goes next, or with a fault.
func (s *server) page(next func(http.ResponseWriter, *http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		var to string
		err := s.limits.Admit(w, r, middleware.Anonymous)
		if err == nil {
			to, err = next(w, r)
		}
		if err != nil {
			middleware.WriteFault(w, r, s.config.Log, classify(err))
			return
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// beginSignIn sends a browser to the issuer. What binds its way back to it lies sealed in a cookie of its own.
func (s *server) beginSignIn(w http.ResponseWriter, r *http.Request) (string, error) {
	returnTo, err := localPath(r.URL.Query().Get("return_to"))
	if err != nil {
		return "", err
	}
	begun := attempt{
		Attempt: oidc.Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()}, ReturnTo: returnTo, Until: s.config.Now().Add(attemptLife),
	}
	to, err := s.config.SignIn.Web.SignInURL(r.Context(), begun.Attempt)
	if err != nil {
		return "", err
	}
	sealed, err := s.sealAttempt(begun)
	if err != nil {
		return "", err
	}
	http.SetCookie(w, s.browser.Cookie(attemptPrefix+begun.State[:attemptName], sealed, attemptLife))
	return to, nil
}

var saneErrorCode = regexp.MustCompile(`^[a-z_]{1,64}$`)

// endSignIn receives the browser back. Whoever it was before, its session is a new one: a secret that somebody planted in
// the browser leads nowhere.
func (s *server) endSignIn(w http.ResponseWriter, r *http.Request) (string, error) {
	query := r.URL.Query()
	state := query.Get("state")
	if len(state) < attemptName {
		return "", fault.New(fault.InvalidRequest, "This is not the end of a sign-in.")
	}
	cookie := attemptPrefix + state[:attemptName]
	begun, err := s.openAttempt(s.browser.Read(r, cookie))
	if err != nil || subtle.ConstantTimeCompare([]byte(begun.State), []byte(state)) != 1 || s.config.Now().After(begun.Until) {
		return "", fault.Wrap(err, fault.InvalidRequest, "This browser did not begin this sign-in, or took too long; begin again.")
	}
	http.SetCookie(w, s.browser.Cookie(cookie, "", -1))
	if issuer := query.Get("iss"); issuer != "" && issuer != s.config.Verifier.Issuer() {
		return "", fault.New(fault.InvalidRequest, "This answer comes from another identity provider.")
	}
	if refusal := query.Get("error"); refusal != "" {
		if !saneErrorCode.MatchString(refusal) {
			refusal = "server_error"
		}
		return "/?" + url.Values{"signin_error": {refusal}}.Encode(), nil
	}
	tokens, err := s.config.SignIn.Web.Exchange(r.Context(), query.Get("code"), begun.Attempt)
	if err != nil {
		return "", err
	}
	kept, err := s.sessions.Begin(r.Context(), tokens)
	if err != nil {
		return "", err
	}
	if before := s.browser.Secret(r); before != "" {
		if _, err := s.sessions.End(r.Context(), before); err != nil && !errors.Is(err, fault.TokenExpired) {
			return "", err
		}
	}
	s.browser.Keep(w, &kept, s.config.Now())
	return begun.ReturnTo, nil
}

// localPath holds an address to our own pages: nobody is led elsewhere by a link to us.
func localPath(asked string) (string, error) {
	if asked == "" {
		return "/", nil
	}
	refused := invalid("query.return_to", "it must be a path of this site, such as /allocations")
	if len(asked) > longestReturnTo || !strings.HasPrefix(asked, "/") || strings.HasPrefix(asked, "//") || strings.HasPrefix(asked, "/api/") {
		return "", refused
	}
	for _, letter := range asked {
		if letter <= ' ' || letter == '\\' || letter == 0x7f {
			return "", refused
		}
	}
	parsed, err := url.Parse(asked)
	if err != nil || parsed.Scheme != "" || parsed.Host != "" || parsed.User != nil || strings.HasPrefix(parsed.Path, "//") || strings.Contains(parsed.Path, `\`) {
		return "", refused
	}
	return asked, nil
}

// attemptCipher keeps what a browser carries to the issuer and back from being read or changed on the way.
func (s *server) attemptCipher() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.config.IDSecret, nil, "gpuaas sign-in attempt", sha256.Size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s *server) sealAttempt(begun attempt) (string, error) {
	text, err := json.Marshal(begun)
	if err != nil {
		return "", err
	}
	aead, err := s.attemptCipher()
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, text, nil)), nil
}

func (s *server) openAttempt(sealed string) (attempt, error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return attempt{}, err
	}
	aead, err := s.attemptCipher()
	if err != nil {
		return attempt{}, err
	}
	text, err := aead.Open(nil, nil, raw, nil)
	if err != nil {
		return attempt{}, err
	}
	var begun attempt
	return begun, json.Unmarshal(text, &begun)
}
