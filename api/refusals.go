package api

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

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
		// Each of them takes an idempotency key.
		codes = append(codes, fault.InvalidRequest, fault.RequestTooLarge, fault.RequestTimeout, fault.IdempotencyConflict)
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

// takesBody says whether an operation's input has a body.
func takesBody[In any]() bool {
	_, found := reflect.TypeFor[In]().FieldByName("Body")
	return found
}
