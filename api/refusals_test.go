package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
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
