package issuer

import (
	"bytes"
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

const (
	loginPath     = RealmPath + "/login"
	devicePath    = RealmPath + "/device"
	signedOutPath = RealmPath + "/signed-out"

	// sessionCookie keeps a browser signed in to the issuer itself.
	sessionCookie = "GPUAAS_ISSUER_SESSION"
)

//go:embed pages.html
var pagesText string

// page is everything a page may show.
type page struct {
	Title, Trouble, Action, Request, UserCode, Client, Username, Text string
}

type pages struct{ templates *template.Template }

func newPages() (pages, error) {
	parsed, err := template.New("pages").Parse(pagesText)
	return pages{templates: parsed}, err
}

// show writes a page that nobody may frame or keep.
func (p pages) show(w http.ResponseWriter, status int, name string, content page) {
	var text bytes.Buffer
	if err := p.templates.ExecuteTemplate(&text, name, content); err != nil {
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_, _ = text.WriteTo(w) // the browser has gone: there is nobody to tell
}

func loginURL(name, value string) string {
	return loginPath + "?" + url.Values{name: {value}}.Encode()
}

// signInPages are the pages of the issuer. A browser sends their forms from nowhere else.
func (i *Issuer) signInPages(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET " + loginPath: i.showLogin, "POST " + loginPath: i.login,
		"GET " + devicePath: i.showDevice, "POST " + devicePath: i.decideDevice,
		"GET " + signedOutPath: i.signedOut,
	} {
		mux.Handle(pattern, guard.Handler(handler))
	}
}

// showLogin asks who is there, unless the browser is signed in and the request is content with that.
func (i *Issuer) showLogin(w http.ResponseWriter, r *http.Request) {
	id, userCode := r.FormValue("request"), r.FormValue("user_code")
	request, waiting := i.state.request(id)
	if !waiting && userCode == "" {
		i.pages.show(w, http.StatusBadRequest, "done", page{Title: "Start again", Text: "This sign-in has expired or was never begun."})
		return
	}
	if waiting {
		session := i.cookie(r)
		who, known := i.state.session(session)
		if known && request.accepts(who.at) {
			i.state.approve(id, session, who)
			http.Redirect(w, r, i.callbackURL(id), http.StatusSeeOther)
			return
		}
		if len(request.asked.Prompt) == 1 && request.asked.Prompt[0] == oidc.PromptNone {
			http.Redirect(w, r, i.callbackURL(id), http.StatusSeeOther) // which answers that somebody is needed
			return
		}
	}
	i.pages.show(w, http.StatusOK, "login", page{Title: "Sign in", Action: loginPath, Request: id, UserCode: userCode})
}

func (i *Issuer) login(w http.ResponseWriter, r *http.Request) {
	id, userCode := r.FormValue("request"), r.FormValue("user_code")
	who, matches := i.signIn(r.FormValue("username"), r.FormValue("password"))
	if !matches {
		i.pages.show(w, http.StatusUnauthorized, "login",
			page{Title: "Sign in", Trouble: "User name or password is wrong.", Action: loginPath, Request: id, UserCode: userCode})
		return
	}
	session := i.state.begin(who.Subject)
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: session, Path: RealmPath + "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	if userCode != "" {
		http.Redirect(w, r, devicePath+"?"+url.Values{"user_code": {userCode}}.Encode(), http.StatusSeeOther)
		return
	}
	i.state.approve(id, session, signedIn{subject: who.Subject, at: time.Now()})
	http.Redirect(w, r, i.callbackURL(id), http.StatusSeeOther)
}

// showDevice asks for the code, then who is there, then whether the device may act for them.
func (i *Issuer) showDevice(w http.ResponseWriter, r *http.Request) {
	userCode := tidied(r.FormValue("user_code"))
	if userCode == "" {
		i.pages.show(w, http.StatusOK, "code", page{Title: "Connect a device", Action: devicePath})
		return
	}
	waiting, found := i.state.device(userCode)
	if !found {
		i.pages.show(w, http.StatusBadRequest, "code", page{Title: "Connect a device", Trouble: "No device waits with this code.", Action: devicePath})
		return
	}
	session, known := i.state.session(i.cookie(r))
	if !known {
		http.Redirect(w, r, loginURL("user_code", userCode), http.StatusSeeOther)
		return
	}
	who, _ := i.user(session.subject)
	i.pages.show(w, http.StatusOK, "consent", page{
		Title: "Connect a device", Action: devicePath, UserCode: userCode, Client: waiting.state.ClientID, Username: who.Username,
	})
}

func (i *Issuer) decideDevice(w http.ResponseWriter, r *http.Request) {
	session, known := i.state.session(i.cookie(r))
	if !known {
		http.Redirect(w, r, loginURL("user_code", r.FormValue("user_code")), http.StatusSeeOther)
		return
	}
	granted := r.FormValue("accept") != "" && r.FormValue("cancel") == ""
	if !i.state.decide(tidied(r.FormValue("user_code")), session, granted) {
		i.pages.show(w, http.StatusBadRequest, "code", page{Title: "Connect a device", Trouble: "No device waits with this code.", Action: devicePath})
		return
	}
	text := "The device is connected. You can close this page."
	if !granted {
		text = "The device was refused. You can close this page."
	}
	i.pages.show(w, http.StatusOK, "done", page{Title: "Connect a device", Text: text})
}

func (i *Issuer) signedOut(w http.ResponseWriter, _ *http.Request) {
	i.pages.show(w, http.StatusOK, "done", page{Title: "Signed out", Text: "You are signed out. You can close this page."})
}

// tidied is a user code as we made it, however it was typed.
func tidied(userCode string) string {
	letters := strings.NewReplacer("-", "", " ", "").Replace(strings.ToUpper(userCode))
	if len(letters) != userCodeLetters {
		return letters
	}
	return letters[:userCodeDash] + "-" + letters[userCodeDash:]
}

func (i *Issuer) callbackURL(request string) string {
	return RealmPath + "/" + protocolPath + "auth/callback?" + url.Values{"id": {request}}.Encode()
}

func (i *Issuer) cookie(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

type browserKey struct{}

// rememberBrowser tells the library's storage which session of ours a request comes from.
func (i *Issuer) rememberBrowser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), browserKey{}, i.cookie(r))))
	})
}

func browserSession(ctx context.Context) string {
	session, _ := ctx.Value(browserKey{}).(string)
	return session
}
