package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// bare is the limit: handlers that make the statements of an answer and write them as JSON, and do nothing else.
type bare struct {
	pool      *pgxpool.Pool
	reader    person
	byToken   map[string]person
	admission *activities.Allocations
}

// serveBare serves the bare side on a pool of its own, as large as that of the API.
func (w *world) serveBare() error {
	pool, err := store.Open(context.Background(), w.databaseURL, store.MaxConnections(connections))
	if err != nil {
		return err
	}
	b := &bare{pool: pool, reader: w.reader, byToken: map[string]person{}, admission: &activities.Allocations{Pool: pool, Policy: policy.New(pool), Now: time.Now}}
	for _, one := range w.creators {
		b.byToken["Bearer "+one.token] = one
	}
	server := httptest.NewServer(b.routes())
	w.ends = append(w.ends, pool.Close, server.Close)
	w.bare = server.URL
	return nil
}

func (b *bare) routes() *http.ServeMux {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /api/v1/allocations/{id}", answered(http.StatusOK, b.allocation))
	routes.HandleFunc("GET /api/v1/allocations", answered(http.StatusOK, b.list))
	routes.HandleFunc("GET /api/v1/billing/balance", answered(http.StatusOK, b.balance))
	routes.HandleFunc("POST /api/v1/allocations", answered(http.StatusCreated, b.create))
	return routes
}

func answered(status int, read func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := read(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}
}

type allocationWithCost struct {
	queries.Allocation
	CostMicros money.Micros
}

func (b *bare) allocation(r *http.Request) (any, error) {
	row, err := queries.GetAllocation(r.Context(), b.pool, b.reader.tenant, id.Allocation(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	costs, err := queries.Costs(r.Context(), b.pool, []id.Allocation{row.ID})
	return allocationWithCost{row, costs[row.ID]}, err
}

func (b *bare) list(r *http.Request) (any, error) {
	rows, err := queries.ListAllocations(r.Context(), b.pool, queries.AllocationFilter{TenantID: b.reader.tenant, Limit: 51})
	if err != nil {
		return nil, err
	}
	ids := make([]id.Allocation, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	costs, err := queries.Costs(r.Context(), b.pool, ids)
	if err != nil {
		return nil, err
	}
	page := make([]allocationWithCost, len(rows))
	for i, row := range rows {
		page[i] = allocationWithCost{row, costs[row.ID]}
	}
	return page, nil
}

func (b *bare) balance(r *http.Request) (any, error) {
	meters, err := queries.RunningMeters(r.Context(), b.pool, b.reader.tenant, b.reader.account)
	if err != nil {
		return nil, err
	}
	ids := make([]id.Allocation, len(meters))
	for i, meter := range meters {
		ids[i] = meter.AllocationID
	}
	posted, err := queries.LastPostedEnds(r.Context(), b.pool, ids)
	if err != nil {
		return nil, err
	}
	balance, currency, err := queries.TenantBalance(r.Context(), b.pool, b.reader.tenant, b.reader.account)
	if err != nil {
		return nil, err
	}
	running, err := queries.RunningByAccount(r.Context(), b.pool, b.reader.tenant, b.reader.account)
	return map[string]any{"balance": balance, "currency": currency, "meters": len(meters), "posted": len(posted), "running": len(running)}, err
}

// create makes the same transaction as an admission, without a workflow behind it.
func (b *bare) create(r *http.Request) (any, error) {
	who, known := b.byToken[r.Header.Get("Authorization")]
	if !known {
		return nil, errors.New("nobody")
	}
	key := r.Header.Get("X-Idempotency-Key")
	hash := sha256.Sum256([]byte(key))
	reply, err := b.admission.Admit(r.Context(), workflows.AdmitRequest{
		AllocationID: rig.NewID[id.Allocation](), ProjectID: who.project, SKU: benchSKU, Name: "bench", IdempotencyKey: key, RequestHash: hash[:], CorrelationID: key,
		RunID:     "bare",
		Principal: identity.Principal{UserID: who.user, TenantID: who.tenant, ProjectID: who.project, AccountID: who.account, Roles: []string{identity.RoleUser}},
	})
	if err == nil && !reply.Admitted {
		err = errors.New("refused: " + strings.TrimSpace(reply.Fault.Message))
	}
	return reply, err
}

// read is one thing to be read from both sides.
type read struct {
	name, path string
	world      *world
}

func (w *world) reads() []read {
	return []read{
		{"get_allocation", "/api/v1/allocations/" + string(w.reader.allocation), w},
		{"list", "/api/v1/allocations", w},
		{"balance", "/api/v1/billing/balance", w},
	}
}

func (r read) request(bare bool) func(context.Context) (*http.Request, error) {
	if bare {
		return r.world.get(r.world.bare+r.path, "")
	}
	return r.world.get(r.world.base+r.path, r.world.reader.token)
}
