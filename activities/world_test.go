//go:build integration

package activities_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// world is a database with a SKU at 36 currency units an hour, so that a second costs 10 000 micros.
type world struct {
	*storetest.Database
	t     *testing.T
	tools *activities.Allocations
	nodes *activities.Nodes
	now   time.Time
}

const (
	testSKU        id.SKU       = "h100-8x"
	microsASecond  money.Micros = 10_000
	runwaySeconds               = 600
	runwayOfOne                 = microsASecond * runwaySeconds
	testPriceMicro money.Micros = microsASecond * 3600
)

func newWorld(t *testing.T, nodes int, options ...store.Option) *world {
	t.Helper()
	w := &world{Database: storetest.New(t, options...), t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	w.tools = &activities.Allocations{Pool: w.App, Policy: policy.New(w.App), Now: func() time.Time { return w.now }}
	w.nodes = &activities.Nodes{Pool: w.App}
	w.must(queries.InsertSKU(t.Context(), w.App, queries.SKU{
		ID: testSKU, Name: "8 × H100", GPUModel: "NVIDIA H100", GPUCount: 8, GPUMemoryBytes: 80 << 30, CPUModel: "cpu", CPUCount: 112,
		MemoryBytes: 2 << 40, DiskBytes: 1 << 40, OSImage: "ubuntu-24.04", CUDAVersion: "12.8", Location: "here", Offered: true,
	}))
	w.must(queries.InsertPrice(t.Context(), w.App, queries.Price{
		ID: newID[id.Price](), SKU: testSKU, Currency: "usd", RateMicrosPerHour: testPriceMicro, ValidFrom: w.now.Add(-time.Hour),
	}))
	for i := range nodes {
		w.addNode(fmt.Sprintf("node-%03d", i))
	}
	return w
}

func (w *world) must(did bool, err error) {
	w.t.Helper()
	if err != nil || !did {
		w.t.Fatalf("a row of the fixture was not written (%v): %v", did, err)
	}
}

func (w *world) addNode(hostname string) id.Node {
	w.t.Helper()
	nodeID := newID[id.Node]()
	w.must(queries.InsertNode(w.t.Context(), w.App, nodeID, testSKU, hostname))
	if _, err := queries.TransitionNode(w.t.Context(), w.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
		w.t.Fatal(err)
	}
	return nodeID
}

// tenant signs a person in and gives them credit.
func (w *world) tenant(subject string, credit money.Micros) identity.Principal {
	w.t.Helper()
	var signed queries.Identity
	err := store.InTx(w.t.Context(), w.App, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		signed, err = queries.EnsureIdentity(ctx, tx, queries.SignIn{
			Issuer: "https://issuer.test", Subject: subject, Username: subject, Currency: "usd",
			TenantID: newID[id.Tenant](), UserID: newID[id.User](), ProjectID: newID[id.Project](), AccountID: newID[id.Account](),
		})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	principal := identity.Principal{UserID: signed.User.ID, TenantID: signed.User.TenantID, ProjectID: signed.Tenants[0].ProjectID, AccountID: signed.Tenants[0].AccountID}
	w.credit(principal, credit)
	return principal
}

// credit gives an account money; a negative amount takes it.
func (w *world) credit(principal identity.Principal, amount money.Micros) {
	w.t.Helper()
	kind, debit, credit := "adjustment_credit", "acct_platformcreditusdaaaaaaaaa", string(principal.AccountID)
	if amount < 0 {
		kind, debit, credit, amount = "adjustment_debit", credit, debit, -amount
	}
	if amount == 0 {
		return
	}
	w.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		VALUES ($1, gen_random_uuid(), $2, $3, 'usd', $4, 'test:' || gen_random_uuid())`, kind, debit, credit, int64(amount))
}

func (w *world) exec(sql string, arguments ...any) {
	w.t.Helper()
	if _, err := w.Owner.Exec(w.t.Context(), sql, arguments...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) count(sql string, arguments ...any) int {
	w.t.Helper()
	var n int
	if err := w.Owner.QueryRow(w.t.Context(), sql, arguments...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) setPolicy(key, value string) {
	w.t.Helper()
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id)
		VALUES ($1, 1 + (SELECT count(*) FROM policy_values WHERE key = $1), $2::text::jsonb, 'platform')`, key, value)
}

// request is a fresh request of the principal under a key; the id derives from both, as the API derives it.
func request(principal identity.Principal, key string) workflows.AdmitRequest {
	sum := sha256.Sum256([]byte(string(principal.UserID) + "\x00" + key))
	hash := sha256.Sum256([]byte("body of " + key))
	return workflows.AdmitRequest{
		AllocationID: id.New[id.Allocation]([16]byte(sum[:16])), Principal: principal, ProjectID: principal.ProjectID, SKU: testSKU,
		Name: "train", Labels: map[string]string{"team": "a"}, SSHKeys: []string{"ssh-ed25519 AAAA"}, IdempotencyKey: key,
		RequestHash: hash[:], CorrelationID: "correlation-" + key, RunID: "run-" + key,
	}
}

func (w *world) admit(in workflows.AdmitRequest) workflows.AdmitReply {
	w.t.Helper()
	reply, err := w.tools.Admit(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

// mustAdmit admits and answers the terms.
func (w *world) mustAdmit(principal identity.Principal, key string) (workflows.AdmitRequest, workflows.Terms) {
	w.t.Helper()
	in := request(principal, key)
	reply := w.admit(in)
	if !reply.Admitted || reply.Terms == nil {
		w.t.Fatalf("%s was refused: %+v", key, reply.Fault)
	}
	return in, *reply.Terms
}

// step writes one arrow.
func (w *world) step(terms workflows.Terms, version int64, from, to string, change workflows.Transition) (workflows.TransitionDone, error) {
	change.AllocationID, change.TenantID, change.Version = terms.Lease.AllocationID, terms.TenantID, version
	change.From, change.To = stateOf(from), stateOf(to)
	if change.At.IsZero() {
		change.At = w.now
	}
	change.Actor, change.CorrelationID = identity.Platform(), terms.CorrelationID
	return w.tools.Transition(w.t.Context(), change)
}

func (w *world) mustStep(terms workflows.Terms, version int64, from, to string, change workflows.Transition) {
	w.t.Helper()
	if _, err := w.step(terms, version, from, to, change); err != nil {
		w.t.Fatal(err)
	}
}

func newID[K id.Kind]() K {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	return id.New[K](entropy)
}

func newNodeID() id.Node { return newID[id.Node]() }
