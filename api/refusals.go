package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// refusals lists the HTTP statuses with which an operation may be refused before or around its handler, as its line in
// the table says. What the handler itself refuses stands in the contract alone (x-error-codes).
func (line route) refusals(takesBody bool) []int {
	codes := []fault.Code{fault.ValidationError, fault.RateLimitExceeded, fault.InternalError}
	if line.rule.access != middleware.Public {
		codes = append(codes, fault.TokenMissing, fault.InsufficientPermissions, fault.UpstreamError, fault.ServiceUnavailable)
	}
	if strings.Contains(line.path, "{") {
		codes = append(codes, fault.NotFound)
	}
	if line.method != "GET" {
		codes = append(codes, fault.InvalidRequest, fault.RequestTooLarge, fault.RequestTimeout)
	}
	if line.method != "GET" && line.operation != receiveWebhook {
		codes = append(codes, fault.IdempotencyConflict) // each of them takes an idempotency key
	}
	if takesBody {
		codes = append(codes, fault.UnsupportedMediaType)
	}
	var statuses []int
	for _, code := range codes {
		statuses = append(statuses, code.HTTPStatus())
	}
	slices.Sort(statuses)
	return slices.Compact(statuses)
}

// refuseEmpty refuses a parameter that is given and empty: it would pass for one that was not given, so that a filter would
// let everything through and a key would protect nothing.
func refuseEmpty(r *http.Request) error {
	for name, values := range r.URL.Query() {
		if slices.Contains(values, "") {
			return invalid("query."+name, "a parameter that is given must not be empty")
		}
	}
	if keys := r.Header.Values(middleware.HeaderIdempotencyKey); slices.Contains(keys, "") {
		return fault.New(fault.IdempotencyKeyInvalid, "")
	}
	return nil
}

// refuseUnkept refuses what could not be kept as it was given, wherever in a request it stands: text with a NUL or without a
// reading in UTF-8, which the database does not take and a JSON decoder would replace in silence, and null, which would pass for
// a field that was not given. withBody says that the body was buffered.
func refuseUnkept(r *http.Request, withBody bool) error {
	if !kept(r.URL.Path) {
		return invalid("path", notText)
	}
	if err := refuseUnkeptForm("query", r.URL.Query()); err != nil || !withBody {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !utf8.Valid(body) {
		return invalid("body", notText)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == formType {
		// What is wrong with a form that cannot be parsed, its operation says.
		form, _ := url.ParseQuery(string(body))
		return refuseUnkeptForm("body", form)
	}
	if !bytes.Contains(body, []byte(`\u0000`)) && !bytes.Contains(body, []byte("null")) {
		return nil
	}
	var given any
	if json.Unmarshal(body, &given) == nil {
		return refuseUnkeptValue("body", given)
	}
	return nil // what is no JSON, its validation says better
}

const (
	notText = "text must be UTF-8 without the character U+0000"
	isNull  = "null stands for nothing: leave the field out"
)

func kept(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

func refuseUnkeptForm(location string, fields url.Values) error {
	for name, values := range fields {
		if !kept(name) {
			return invalid(location, notText)
		}
		if slices.ContainsFunc(values, func(value string) bool { return !kept(value) }) {
			return invalid(location+"."+name, notText)
		}
	}
	return nil
}

func refuseUnkeptValue(location string, value any) error {
	switch value := value.(type) {
	case nil:
		return invalid(location, isNull)
	case string:
		if !kept(value) {
			return invalid(location, notText)
		}
	case []any:
		for i, item := range value {
			if err := refuseUnkeptValue(fmt.Sprintf("%s[%d]", location, i), item); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, field := range value {
			if !kept(name) {
				return invalid(location, notText)
			}
			if err := refuseUnkeptValue(location+"."+name, field); err != nil {
				return err
			}
		}
	}
	return nil
}

// takesBody says whether an operation's input has a body.
func takesBody[In any]() bool {
	_, found := reflect.TypeFor[In]().FieldByName("Body")
	_, raw := reflect.TypeFor[In]().FieldByName("RawBody")
	return found || raw
}
