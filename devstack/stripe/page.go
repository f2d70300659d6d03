package stripe

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"sort"
	"strings"
)

var pages = template.Must(template.New("").Parse(`
{{define "head"}}<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Stripe stand-in</title>
<style>body{font:16px/1.5 system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}button{font:inherit;padding:.5rem 1rem;margin:.25rem 0;width:100%}
.amount{font-size:2rem}small{color:#666}</style>{{end}}
{{define "pay"}}{{template "head"}}<h1>{{if eq .Mode "setup"}}Save a card{{else}}Pay{{end}}</h1>{{if .Amount}}<p class="amount">{{.Amount}}</p>{{end}}
<p><small>This is a stand-in for Stripe: no money moves.</small></p>
{{if eq .Status "open"}}<form method="post">
<button name="outcome" value="pay">{{if eq .Mode "setup"}}Save the card 4242{{else}}Pay with the card 4242{{end}}</button>
<button name="outcome" value="decline">Have the card declined</button>
<button name="outcome" value="pay_then_decline">Use a card that is declined when it is charged later</button>
<button name="outcome" value="pay_then_authenticate">Use a card whose bank wants to see you when it is charged later</button>
{{if ne .Mode "setup"}}<button name="outcome" value="delay">Pay by a bank debit that settles later</button>{{end}}
<button name="outcome" value="expire">Let the page expire</button></form>
{{else}}<p>This page is {{.Status}}.</p>{{end}}{{with .Back}}<p><a href="{{.}}">Back</a></p>{{end}}{{end}}
{{define "index"}}{{template "head"}}<h1>Stripe stand-in</h1><p>Pages that wait for somebody to pay:</p><ul>
{{range .}}<li><a href="/pay/{{.}}">{{.}}</a></li>{{else}}<li>none</li>{{end}}</ul>{{end}}`))

// shown is what the page says of a session.
type shown struct{ Mode, Status, Amount, Back string }

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	var open []string
	s.state.mutex.Lock()
	for _, a := range s.state.accounts {
		for id, o := range a.objects {
			if text(o, "object") == "checkout.session" && text(o, "status") == "open" {
				open = append(open, id)
			}
		}
	}
	s.state.mutex.Unlock()
	sort.Strings(open)
	s.show(w, http.StatusOK, "index", open)
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	_, session := s.accountOfSession(r.PathValue("session"))
	if session == nil {
		http.NotFound(w, r)
		return
	}
	about := shown{Mode: text(session, "mode"), Status: text(session, "status"), Back: text(session, "cancel_url")}
	if about.Status == "complete" {
		about.Back = text(session, "success_url")
	}
	if whole(session, "expires_at") <= s.now().Unix() && about.Status == "open" {
		about.Status = "expired"
	}
	if session["amount_total"] != nil {
		about.Amount = fmt.Sprintf("%d.%02d %s", whole(session, "amount_total")/100, whole(session, "amount_total")%100, strings.ToUpper(text(session, "currency")))
	}
	s.show(w, http.StatusOK, "pay", about)
}

// attended is a button that somebody pressed: they are sent back as Stripe would.
func (s *Server) attended(w http.ResponseWriter, r *http.Request) {
	key, session := s.accountOfSession(r.PathValue("session"))
	if session == nil {
		http.NotFound(w, r)
		return
	}
	outcome := r.PostFormValue("outcome")
	_, err := s.change(key, func(c *change) (object, error) {
		found, err := c.find("checkout.session", r.PathValue("session"))
		if err != nil {
			return nil, err
		}
		return found, c.attend(found, outcome)
	})
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		http.Error(w, refused.message, refused.status)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case outcome == OutcomeDecline || outcome == OutcomeExpire:
		http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
	default:
		http.Redirect(w, r, strings.ReplaceAll(text(session, "success_url"), "{CHECKOUT_SESSION_ID}", text(session, "id")), http.StatusSeeOther)
	}
}

func (s *Server) show(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		s.log.Warn("a page was not shown to its end", "error", err)
	}
}
