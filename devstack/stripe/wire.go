package stripe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// apiError is an error as Stripe words it.
type apiError struct {
	status  int
	kind    string
	code    string
	decline string
	message string
	intent  object
}

func (e *apiError) Error() string { return e.message }

func (e *apiError) body() object {
	inner := object{"type": e.kind, "message": e.message}
	if e.code != "" {
		inner["code"] = e.code
	}
	if e.decline != "" {
		inner["decline_code"] = e.decline
	}
	if e.intent != nil {
		inner["payment_intent"] = e.intent
	}
	return object{"error": inner}
}

func badRequest(code, format string, arguments ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: "invalid_request_error", code: code, message: fmt.Sprintf(format, arguments...)}
}

func missing(kind, id string) *apiError {
	return &apiError{status: http.StatusNotFound, kind: "invalid_request_error", code: "resource_missing", message: fmt.Sprintf("No such %s: '%s'", kind, id)}
}

// change is one request at work: what it reads, and what it will have done once it is committed.
type change struct {
	*account
	server *Server
	given  object
	now    int64
	record record
	// made are objects of this change, which reads see already.
	made map[string]object
}

func (c *change) find(kind, id string) (object, error) {
	found := c.made[id]
	if found == nil {
		found = c.objects[id]
	}
	if found == nil || text(found, "object") != kind {
		return nil, missing(kind, id)
	}
	return asJSON(found) // a copy: what is not committed changes nothing
}

// put makes an object part of the change.
func (c *change) put(o object) {
	for i, known := range c.record.Objects {
		if text(known, "id") == text(o, "id") {
			c.record.Objects[i] = o
			c.made[text(o, "id")] = o
			return
		}
	}
	c.record.Objects = append(c.record.Objects, o)
	c.made[text(o, "id")] = o
}

// fresh is a new object of a kind.
func (c *change) fresh(kind, prefix string, fields object) (object, error) {
	made, err := c.server.description.example(kind)
	if err != nil {
		return nil, err
	}
	made["id"], made["created"], made["livemode"] = newID(prefix), c.now, false
	if _, described := made["metadata"]; described {
		made["metadata"] = object{}
	}
	for field, value := range fields {
		made[field] = value
	}
	return made, nil
}

// operation is one of Stripe's operations that is spoken here.
type operation struct {
	method, path string
	do           func(c *change, id string) (object, error)
}

func operations() []operation {
	return []operation{
		{"POST", "/v1/customers", createCustomer},
		{"GET", "/v1/customers/{id}", get("customer")},
		{"DELETE", "/v1/customers/{id}", deleteCustomer},
		{"POST", "/v1/checkout/sessions", createSession},
		{"GET", "/v1/checkout/sessions/{id}", get("checkout.session")},
		{"POST", "/v1/checkout/sessions/{id}/expire", expireSession},
		{"POST", "/v1/payment_intents", createIntent},
		{"GET", "/v1/payment_intents", find("payment_intent", "customer")},
		{"GET", "/v1/payment_intents/{id}", get("payment_intent")},
		{"POST", "/v1/payment_intents/{id}/cancel", cancelIntent},
		{"GET", "/v1/charges", find("charge", "payment_intent", "customer")},
		{"GET", "/v1/charges/{id}", get("charge")},
		{"POST", "/v1/refunds", createRefund},
		{"GET", "/v1/refunds", find("refund", "payment_intent", "charge")},
		{"GET", "/v1/refunds/{id}", get("refund")},
		{"GET", "/v1/disputes", find("dispute", "payment_intent", "charge")},
		{"GET", "/v1/disputes/{id}", get("dispute")},
		{"GET", "/v1/setup_intents/{id}", get("setup_intent")},
		{"GET", "/v1/payment_methods/{id}", get("payment_method")},
		{"POST", "/v1/payment_methods/{id}/detach", detachMethod},
		{"GET", "/v1/events", find("event")},
		{"GET", "/v1/events/{id}", get("event")},
		{"POST", "/v1/webhook_endpoints", createEndpoint},
		{"GET", "/v1/webhook_endpoints", find("webhook_endpoint")},
	}
}

// get answers an object by its id, with what was asked to be expanded in it.
func get(kind string) func(*change, string) (object, error) {
	return func(c *change, id string) (object, error) {
		found, err := c.find(kind, id)
		if err != nil {
			return nil, err
		}
		for _, field := range list(c.given, "expand") {
			c.expand(found, fmt.Sprint(field))
		}
		return found, nil
	}
}

// expand replaces the id that a field holds by its object.
func (c *change) expand(o object, path string) {
	field, rest, deeper := strings.Cut(path, ".")
	if id := text(o, field); id != "" && c.objects[id] != nil {
		if copied, err := asJSON(c.objects[id]); err == nil {
			o[field] = copied
		}
	}
	if inner := part(o, field); deeper && inner != nil {
		c.expand(inner, rest)
	}
}

const pageSize = 10

// find answers a page of the objects of a kind, newest first.
func find(kind string, filters ...string) func(*change, string) (object, error) {
	return func(c *change, _ string) (object, error) {
		limit := int(whole(c.given, "limit"))
		if limit == 0 {
			limit = pageSize
		}
		items, more, begun := []any{}, false, text(c.given, "starting_after") == ""
		for i := len(c.order) - 1; i >= 0; i-- {
			o := c.objects[c.order[i]]
			if text(o, "object") != kind || !c.fits(o, filters) {
				continue
			}
			if !begun {
				begun = c.order[i] == text(c.given, "starting_after")
				continue
			}
			if more = len(items) == limit; more {
				break
			}
			items = append(items, o)
		}
		return object{"object": "list", "data": items, "has_more": more, "url": "/v1/" + strings.ReplaceAll(kind, "_", "") + "s"}, nil
	}
}

func (c *change) fits(o object, filters []string) bool {
	for _, field := range filters {
		if wanted := text(c.given, field); wanted != "" && text(o, field) != wanted {
			return false
		}
	}
	if types := list(c.given, "types"); len(types) > 0 {
		fits := false
		for _, kind := range types {
			fits = fits || kind == text(o, "type")
		}
		if !fits {
			return false
		}
	}
	since := part(c.given, "created")
	return since == nil || whole(o, "created") >= whole(since, "gte") && (since["gt"] == nil || whole(o, "created") > whole(since, "gt"))
}

// secretKey reads the key that a request is made with.
func secretKey(r *http.Request) (string, bool) {
	kind, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if kind == "Basic" {
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return "", false
		}
		value, _, _ = strings.Cut(string(raw), ":")
	}
	return value, strings.HasPrefix(value, "sk_test_") && len(value) > len("sk_test_")
}

// serveAPI answers a request of Stripe's API.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", newID("req"))
	w.Header().Set("Stripe-Version", s.description.Version())
	key, known := secretKey(r)
	if !known {
		refuse(w, &apiError{status: http.StatusUnauthorized, kind: "invalid_request_error", message: "Invalid API Key provided"})
		return
	}
	s.counts.requests.Add(1)
	if version := r.Header.Get("Stripe-Version"); version != "" && version != s.description.Version() {
		s.invalid(r, fmt.Errorf("version %s is not %s", version, s.description.Version()))
		refuse(w, badRequest("", "Invalid Stripe API version: %s", version))
		return
	}
	given, err := s.description.Request(r)
	if err != nil {
		s.invalid(r, err)
		refuse(w, badRequest("parameter_invalid", "The request is not as Stripe describes it: %v", err))
		return
	}
	before, after := s.trouble(key)
	if before {
		refuse(w, &apiError{status: http.StatusInternalServerError, kind: "api_error", message: "Trouble on demand, before anything was done"})
		return
	}
	status, body, replayed := s.answer(r, key, given)
	if after {
		// The work was done and its answer is lost, as when a connection breaks.
		panic(http.ErrAbortHandler)
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// answer does what is asked once for its Idempotency-Key.
func (s *Server) answer(r *http.Request, key string, given object) (status int, body []byte, replayed bool) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	a := s.state.account(key)
	idempotency, print := r.Header.Get("Idempotency-Key"), fingerprint(r, given)
	if r.Method == http.MethodPost && idempotency != "" {
		if kept, known := a.answers[idempotency]; known {
			if kept.Request != print {
				refused := &apiError{status: http.StatusBadRequest, kind: "idempotency_error", message: "Keys for idempotent requests can only be used with the same parameters they were first used with."}
				return refused.status, render(refused.body()), false
			}
			return kept.Status, kept.Body, true
		}
	}
	c := &change{account: a, server: s, given: given, now: s.now().Unix(), record: record{Account: key}, made: map[string]object{}}
	status, body = c.run(r)
	if r.Method != http.MethodGet && (len(c.record.Objects) > 0 || idempotency != "") && status < http.StatusInternalServerError {
		if idempotency != "" && (status < http.StatusBadRequest || status == http.StatusPaymentRequired) {
			c.record.Key, c.record.Answer = idempotency, &answered{Request: print, Status: status, Body: body}
		}
		if err := s.commit(c); err != nil {
			s.log.Error("the stand-in's journal cannot be written", "error", err)
			return http.StatusInternalServerError, render((&apiError{kind: "api_error", message: err.Error()}).body()), false
		}
	}
	return status, body, false
}

func (c *change) run(r *http.Request) (int, []byte) {
	for _, known := range c.server.operations {
		id, fits := match(known.path, r.URL.Path)
		if known.method != r.Method || !fits {
			continue
		}
		made, err := known.do(c, id)
		var refused *apiError
		switch {
		case errors.As(err, &refused):
			if refused.status != http.StatusPaymentRequired {
				c.record = record{Account: c.key}
			}
			return refused.status, render(refused.body())
		case err != nil:
			c.record = record{Account: c.key}
			return http.StatusInternalServerError, render((&apiError{kind: "api_error", message: err.Error()}).body())
		}
		return http.StatusOK, render(made)
	}
	return http.StatusNotFound, render(badRequest("", "This stand-in does not speak %s %s.", r.Method, r.URL.Path).body())
}

func match(path, asked string) (id string, fits bool) {
	prefix, suffix, parameter := strings.Cut(path, "{id}")
	if !parameter {
		return "", path == asked
	}
	rest, hasPrefix := strings.CutPrefix(asked, prefix)
	id, hasSuffix := strings.CutSuffix(rest, suffix)
	return id, hasPrefix && hasSuffix && id != "" && !strings.Contains(id, "/")
}

func fingerprint(r *http.Request, given object) string {
	text, _ := json.Marshal(given) // what was parsed marshals; keys are sorted
	sum := sha256.Sum256(append([]byte(r.Method+" "+r.URL.Path+" "), text...))
	return hex.EncodeToString(sum[:])
}

func render(o object) []byte {
	text, _ := json.Marshal(o)
	return append(text, '\n')
}

func refuse(w http.ResponseWriter, e *apiError) {
	w.WriteHeader(e.status)
	_, _ = w.Write(render(e.body()))
}

// invalid counts and logs a request that Stripe would not take.
func (s *Server) invalid(r *http.Request, err error) {
	s.counts.invalidRequests.Add(1)
	s.log.Error("a request is not as Stripe describes it", "method", r.Method, "path", r.URL.Path, "error", err)
}

// trouble draws whether a request fails, before or after its work.
func (s *Server) trouble(key string) (before, after bool) {
	s.state.mutex.Lock()
	faults := s.state.account(key).faults
	s.state.mutex.Unlock()
	if pause := s.draw(faults.SlowMS); pause > 0 {
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
	return s.happens(faults.Fail), s.happens(faults.Cut)
}
