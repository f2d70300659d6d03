package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
)

func TestAnEmptyParameterIsNotAnAbsentOne(t *testing.T) {
	for _, test := range []struct {
		path string
		keys []string
		want error
	}{
		{"/api/v1/billing/ledger", nil, nil},
		{"/api/v1/billing/ledger?allocation_id=alloc_x", []string{"k"}, nil},
		{"/api/v1/billing/ledger?allocation_id=", nil, fault.ValidationError},
		{"/api/v1/billing/ledger?tenant_id", nil, fault.ValidationError},
		{"/api/v1/billing/ledger?limit=1&limit=", nil, fault.ValidationError},
		{"/api/v1/allocations", []string{""}, fault.IdempotencyKeyInvalid},
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, test.path, http.NoBody)
		for _, key := range test.keys {
			request.Header.Add(middleware.HeaderIdempotencyKey, key)
		}
		if err := refuseEmpty(request); !errors.Is(err, test.want) {
			t.Errorf("%s with the keys %q is %v, not %v", test.path, test.keys, err, test.want)
		}
	}
}

func TestWhatCannotBeKeptIsRefusedWhereverItStands(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for name, test := range map[string]struct {
		path, kind, body string
		want             error
	}{
		"plain":                       {"/x?a=b", "application/json", `{"reason":"a broken fan"}`, nil},
		"the words of both":           {"/x", "application/json", `{"reason":"null and \\u0000"}`, nil},
		"no JSON":                     {"/x", "application/json", `{"reason":null`, nil},
		"no body":                     {"/x", "", "", nil},
		"NUL in a field":              {"/x", "application/json", `{"reason":"a\u0000b"}`, fault.ValidationError},
		"NUL in a list":               {"/x", "application/json", `{"changes":[{"key":"a"},{"key":"\u0000"}]}`, fault.ValidationError},
		"NUL in a name":               {"/x", "application/json", `{"labels":{"a\u0000":"b"}}`, fault.ValidationError},
		"NUL in a form":               {"/x", form, "client_id=a%00", fault.ValidationError},
		"NUL in a query":              {"/x?cursor=%00", "", "", fault.ValidationError},
		"NUL in a path":               {"/x%00", "", "", fault.ValidationError},
		"no UTF-8 in a field":         {"/x", "application/json", "{\"reason\":\"\xff\"}", fault.ValidationError},
		"no UTF-8 in a form":          {"/x", form, "client_id=%ff", fault.ValidationError},
		"no UTF-8 in a query":         {"/x?a=%c3%28", "", "", fault.ValidationError},
		"no UTF-8 in a query's name":  {"/x?%ff=a", "", "", fault.ValidationError},
		"no UTF-8 in a path":          {"/x%ff", "", "", fault.ValidationError},
		"null in a field":             {"/x", "application/json", `{"expected_version":null}`, fault.ValidationError},
		"null in a list":              {"/x", "application/json", `{"ssh_keys":[null]}`, fault.ValidationError},
		"null in the place of a body": {"/x", "application/json", `null`, fault.ValidationError},
	} {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, test.path, strings.NewReader(test.body))
			request.Header.Set("Content-Type", test.kind)
			if err := refuseUnkept(request, true); !errors.Is(err, test.want) {
				t.Errorf("it is %v, not %v", err, test.want)
			}
			if left, err := io.ReadAll(request.Body); test.want == nil && (err != nil || string(left) != test.body) {
				t.Errorf("the body is %q afterwards: %v", left, err)
			}
		})
	}
}
