//go:build oidc

package conformance

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browser is a person's: it keeps cookies, follows redirects, and fills forms in. It stops at the door of the client.
type browser struct {
	http *http.Client
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	door := target(t).redirect
	return &browser{http: &http.Client{Jar: loopbackJar{jar}, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), door) {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

// loopbackJar trusts plain http to this machine, as browsers do: a Secure cookie goes there too.
type loopbackJar struct{ http.CookieJar }

func (j loopbackJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, cookie := range cookies {
		cookie.Secure = false
	}
	j.CookieJar.SetCookies(u, cookies)
}

// page is what the browser shows; back is where it was sent, when that is the client.
type page struct {
	status int
	url    *url.URL
	back   *url.URL
	form   *form
	text   string
}

type form struct {
	method, action string
	values         url.Values
	// visible are the fields that a person sees, buttons are those that send the form, by name.
	visible, buttons map[string]string
}

func (b *browser) open(t *testing.T, address string) page {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return b.send(t, request)
}

// submit sends a page's form with what a person typed, by the button of that name, or by any when none has it.
func (b *browser) submit(t *testing.T, p page, typed map[string]string, button string) page {
	t.Helper()
	values := url.Values{}
	for name, kept := range p.form.values {
		values[name] = kept
	}
	for name, text := range typed {
		if _, there := p.form.visible[name]; !there {
			t.Fatalf("the form has no field %q: %v", name, p.form.visible)
		}
		values.Set(name, text)
	}
	if value, there := p.form.buttons[button]; there {
		values.Set(button, value)
	}
	action, err := p.url.Parse(p.form.action)
	if err != nil {
		t.Fatal(err)
	}
	var request *http.Request
	if strings.EqualFold(p.form.method, http.MethodPost) {
		request, err = http.NewRequestWithContext(t.Context(), http.MethodPost, action.String(), strings.NewReader(values.Encode()))
		if err == nil {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Origin", p.url.Scheme+"://"+p.url.Host)
			request.Header.Set("Sec-Fetch-Site", "same-origin")
		}
	} else {
		action.RawQuery = values.Encode()
		request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, action.String(), http.NoBody)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.send(t, request)
}

func (b *browser) send(t *testing.T, request *http.Request) page {
	t.Helper()
	response, err := b.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	shown := page{status: response.StatusCode, url: response.Request.URL, text: string(text)}
	if location := response.Header.Get("Location"); location != "" {
		if shown.back, err = shown.url.Parse(location); err != nil {
			t.Fatal(err)
		}
		return shown
	}
	document, err := html.Parse(strings.NewReader(shown.text))
	if err != nil {
		t.Fatal(err)
	}
	shown.form = firstForm(document)
	return shown
}

func firstForm(node *html.Node) *form {
	if node.Type == html.ElementNode && node.Data == "form" {
		found := &form{
			method: attribute(node, "method"), action: attribute(node, "action"),
			values: url.Values{}, visible: map[string]string{}, buttons: map[string]string{},
		}
		found.read(node)
		return found
	}
	for child := node.FirstChild; child != nil; child = child.NextSibling {
		if found := firstForm(child); found != nil {
			return found
		}
	}
	return nil
}

func (f *form) read(node *html.Node) {
	if node.Type == html.ElementNode && (node.Data == "input" || node.Data == "button") {
		name, value, kind := attribute(node, "name"), attribute(node, "value"), attribute(node, "type")
		switch {
		case name == "":
		case node.Data == "button" || kind == "submit":
			f.buttons[name] = value
		case kind == "hidden":
			f.values.Set(name, value)
		case kind == "checkbox":
		default:
			f.values.Set(name, value)
			f.visible[name] = kind
		}
	}
	for child := node.FirstChild; child != nil; child = child.NextSibling {
		f.read(child)
	}
}

func attribute(node *html.Node, name string) string {
	for _, one := range node.Attr {
		if one.Key == name {
			return one.Val
		}
	}
	return ""
}

func (p page) asksForPassword() bool {
	if p.form == nil {
		return false
	}
	_, asks := p.form.visible["password"]
	return asks
}

// signIn fills in the login page that a browser was led to.
func (b *browser) signIn(t *testing.T, p page, who person) page {
	t.Helper()
	if !p.asksForPassword() {
		t.Fatalf("%s shows no login form (%d):\n%s", p.url, p.status, p.text)
	}
	return b.submit(t, p, map[string]string{"username": who.name, "password": who.password}, "")
}
