package api

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// An id that no encoder makes passes the contract's pattern; it must be refused as absent, and never reach a handler without
// its place.
func TestAnIDThatNobodyCanHaveIsAbsent(t *testing.T) {
	for text, want := range map[string]error{
		"tenant_mfrggzdfmztwq2lknnwg23tpoa": nil,
		"tenant_mfrggzdfmztwq2lknnwg23tpob": pgx.ErrNoRows,
		"tenant_MFRGGZDFMZTWQ2LKNNWG23TPOA": errMalformed,
		"node_mfrggzdfmztwq2lknnwg23tpoa":   errMalformed,
		"":                                  errMalformed,
	} {
		if _, err := parseID[id.Tenant](text); !errors.Is(err, want) {
			t.Errorf("%q is %v, not %v", text, err, want)
		}
	}
}
