//go:build integration

package activities_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

func stateOf(text string) allocation.State { return allocation.State(text) }

func TestAdmitWritesEverythingAnAllocationBeginsWith(t *testing.T) {
	w := newWorld(t, 1)
	principal := w.tenant("ada", runwayOfOne)
	in, terms := w.mustAdmit(principal, "k1")

	if terms.RateMicrosPerHour != testPriceMicro || terms.WindowSeconds != 60 || terms.RuntimeMode != workflows.RuntimeAgent || terms.Lease.Generation != 1 {
		t.Errorf("terms are %+v", terms)
	}
	row, err := queries.GetAllocation(t.Context(), w.App, principal.TenantID, in.AllocationID)
	if err != nil {
		t.Fatal(err)
	}
	if row.State != allocation.Requested || row.Version != 1 || row.OwnerRunID != in.RunID || *row.NodeID != terms.Lease.NodeID || row.Username != node.Username(terms.Lease) || row.Labels["team"] != "a" {
		t.Errorf("the row is %+v", row)
	}
	for table, want := range map[string]int{
		"SELECT count(*) FROM node_leases WHERE closed_at IS NULL":                               1,
		"SELECT count(*) FROM allocation_transitions WHERE to_state = 'requested'":               1,
		"SELECT count(*) FROM audit_logs WHERE action = 'allocation.create'":                     1,
		"SELECT count(*) FROM outbox WHERE subject = 'provisioning.requested'":                   1,
		"SELECT count(*) FROM nodes WHERE claimed_by = '" + string(in.AllocationID) + "'":        1,
		"SELECT count(*) FROM idempotency_records WHERE status = 201 AND answer IS NOT NULL":     1,
		"SELECT count(*) FROM outbox WHERE payload->>'correlation_id' = 'correlation-k1'":        1,
		"SELECT count(*) FROM outbox WHERE payload->'payload'->>'allocation_id' <> aggregate_id": 0,
	} {
		if got := w.count(table); got != want {
			t.Errorf("%s answers %d, not %d", table, got, want)
		}
	}
}

func TestAdmitRefusesAndWritesOnlyItsRecord(t *testing.T) {
	type setup func(w *world, principal identity.Principal, in *workflows.AdmitRequest)
	cases := map[string]struct {
		nodes   int
		credit  money.Micros
		prepare setup
		want    fault.Code
	}{
		"one micro short of the runway": {nodes: 1, credit: runwayOfOne - 1, want: fault.InsufficientBalance},
		"no money at all":               {nodes: 1, credit: 0, want: fault.InsufficientBalance},
		"sold out":                      {nodes: 0, credit: runwayOfOne, want: fault.SKUUnavailable},
		"unknown SKU": {nodes: 1, credit: runwayOfOne, want: fault.SKUNotFound,
			prepare: func(_ *world, _ identity.Principal, in *workflows.AdmitRequest) { in.SKU = "b200-8x" }},
		"withdrawn SKU": {nodes: 1, credit: runwayOfOne, want: fault.SKUUnavailable,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.exec("UPDATE skus SET offered = false")
			}},
		"no price yet": {nodes: 1, credit: runwayOfOne, want: fault.SKUPriceMissing,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) { w.now = w.now.Add(-2 * time.Hour) }},
		"node offline": {nodes: 1, credit: runwayOfOne, want: fault.SKUUnavailable,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.exec("UPDATE nodes SET reachability = 'offline'")
			}},
		"node cordoned": {nodes: 1, credit: runwayOfOne, want: fault.SKUUnavailable,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.exec("UPDATE nodes SET scheduling = 'cordoned'")
			}},
		"limit of none": {nodes: 1, credit: runwayOfOne, want: fault.AllocationConcurrencyLimit,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.setPolicy("allocation.max_concurrent_per_user", "0")
			}},
		"re-image without MAAS": {nodes: 1, credit: runwayOfOne, want: fault.IsolationModelUnavailable,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.setPolicy("allocation.isolation_model", `"full-reimage"`)
			}},
		"re-image with MAAS and no driver": {nodes: 1, credit: runwayOfOne, want: fault.IsolationModelUnavailable,
			prepare: func(w *world, _ identity.Principal, _ *workflows.AdmitRequest) {
				w.setPolicy("maas.enabled", "true")
				w.setPolicy("allocation.isolation_model", `"full-reimage"`)
			}},
		"another tenant's project": {nodes: 1, credit: runwayOfOne, want: fault.ProjectNotFound,
			prepare: func(w *world, _ identity.Principal, in *workflows.AdmitRequest) {
				in.ProjectID = w.tenant("mallory", 0).ProjectID
			}},
		"another tenant's account": {nodes: 1, credit: runwayOfOne, want: fault.AccountNotFound,
			prepare: func(w *world, _ identity.Principal, in *workflows.AdmitRequest) {
				in.Principal.AccountID = w.tenant("mallory", runwayOfOne).AccountID
			}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.nodes)
			principal := w.tenant("ada", test.credit)
			in := request(principal, "k1")
			if test.prepare != nil {
				test.prepare(w, principal, &in)
			}
			outbox, audits := w.count("SELECT count(*) FROM outbox"), w.count("SELECT count(*) FROM audit_logs")
			reply := w.admit(in)
			if reply.Admitted || reply.Fault == nil || fault.Code(reply.Fault.Code) != test.want {
				t.Fatalf("the answer is %+v with fault %+v, not %s", reply, reply.Fault, test.want)
			}
			if n := w.count("SELECT count(*) FROM allocations"); n != 0 {
				t.Errorf("%d allocations were written", n)
			}
			if w.count("SELECT count(*) FROM outbox") != outbox || w.count("SELECT count(*) FROM audit_logs") != audits || w.count("SELECT count(*) FROM node_leases") != 0 {
				t.Error("a refusal wrote more than its record")
			}
			if n := w.count("SELECT count(*) FROM idempotency_records WHERE status IS NOT NULL"); n != 1 {
				t.Errorf("%d idempotency records, not 1", n)
			}
			// The world turns friendly; the refusal stays what it was.
			w.addNode("late")
			w.credit(principal, 10*runwayOfOne)
			again := in
			again.CorrelationID = "another request"
			replay := w.admit(again)
			if !replay.Replayed || replay.Fault == nil || replay.Fault.Code != reply.Fault.Code || replay.Fault.Message != reply.Fault.Message || !bytes.Equal(replay.Fault.Details, reply.Fault.Details) {
				t.Errorf("the replay is %+v %+v, the refusal was %+v", replay, replay.Fault, reply.Fault)
			}
		})
	}
}

func TestAdmitChecksTheRunwayToTheMicro(t *testing.T) {
	w := newWorld(t, 4)
	principal := w.tenant("ada", runwayOfOne)
	_, first := w.mustAdmit(principal, "first")

	// A second one doubles the rates: the runway of two is needed, whatever the first has metered.
	w.credit(principal, runwayOfOne-1)
	reply := w.admit(request(principal, "second"))
	var details struct {
		Shortfall money.Micros `json:"shortfall_micros"`
	}
	if reply.Fault == nil || json.Unmarshal(reply.Fault.Details, &details) != nil || details.Shortfall != 1 {
		t.Fatalf("one micro short answers %+v", reply.Fault)
	}
	w.credit(principal, 1)
	_, second := w.mustAdmit(principal, "third")

	// Both meter from now on: after seven seconds, fourteen seconds' worth is spent and not yet posted.
	for _, terms := range []workflows.Terms{first, second} {
		w.mustStep(terms, 1, "requested", "provisioning", workflows.Transition{})
		anchor := w.now
		w.mustStep(terms, 2, "provisioning", "active", workflows.Transition{MeteredFrom: &anchor})
	}
	w.now = w.now.Add(7 * time.Second)
	w.credit(principal, runwayOfOne+14*microsASecond-1)
	if reply := w.admit(request(principal, "fourth")); reply.Admitted || reply.Fault.Code != string(fault.InsufficientBalance) {
		t.Fatalf("accrued and unposted usage was not counted: %+v", reply)
	}
	w.credit(principal, 1)
	w.mustAdmit(principal, "fifth")
}

func TestAdmitReplaysItsAnswerAndRefusesAnotherBody(t *testing.T) {
	w := newWorld(t, 2)
	principal := w.tenant("ada", 4*runwayOfOne)
	in, terms := w.mustAdmit(principal, "k1")

	stepAgain := w.admit(in)
	if stepAgain.Replayed || stepAgain.Terms == nil || stepAgain.Terms.Lease != terms.Lease {
		t.Errorf("the step run again answers %+v", stepAgain)
	}
	other := in
	other.CorrelationID, other.RunID = "another request", "another run"
	replay := w.admit(other)
	if !replay.Replayed || !replay.Admitted || replay.OwnerRunID != in.RunID || replay.Terms.Lease != terms.Lease {
		t.Errorf("another run gets %+v", replay)
	}
	changed := in
	changed.RequestHash = bytes.Repeat([]byte{7}, 32)
	if reply := w.admit(changed); reply.Admitted || reply.Fault.Code != string(fault.IdempotencyConflict) {
		t.Errorf("another body gets %+v", reply)
	}
	if n := w.count("SELECT count(*) FROM allocations"); n != 1 {
		t.Errorf("%d allocations", n)
	}
	// The record outlived its retention, the allocation did not: the key is not free for another allocation.
	w.exec("DELETE FROM idempotency_records")
	if reply := w.admit(other); reply.Admitted || reply.Fault.Code != string(fault.IdempotencyConflict) {
		t.Errorf("a forgotten key gets %+v", reply)
	}
}

func TestAdmitWritesNothingOnceItsTimeHasPassed(t *testing.T) {
	w := newWorld(t, 1)
	in := request(w.tenant("ada", runwayOfOne), "k1")
	in.AdmitBefore = w.now
	if reply := w.admit(in); reply.Admitted || reply.Fault.Code != string(fault.AllocationAdmissionExpired) {
		t.Fatalf("a late request gets %+v", reply)
	}
	if n := w.count("SELECT count(*) FROM idempotency_records"); n != 0 {
		t.Errorf("%d records were kept: the same key must be able to ask again", n)
	}
	in.AdmitBefore = w.now.Add(time.Millisecond)
	if reply := w.admit(in); !reply.Admitted {
		t.Errorf("the same key, in time, gets %+v", reply.Fault)
	}
}

// crowd sends 200 requests at once, every second of them twice with the same key and body, and answers what each
// key was told.
func crowd(t *testing.T, w *world, principalOf func(i int) identity.Principal) map[string][]workflows.AdmitReply {
	t.Helper()
	var group sync.WaitGroup
	var mutex sync.Mutex
	start := make(chan struct{})
	answers := map[string][]workflows.AdmitReply{}
	ask := func(i int, correlationID string) {
		in := request(principalOf(i), fmt.Sprintf("key-%03d", i))
		in.CorrelationID = correlationID
		group.Go(func() {
			<-start
			reply, err := w.tools.Admit(t.Context(), in)
			for waitedTooLong(err) && t.Context().Err() == nil {
				reply, err = w.tools.Admit(t.Context(), in) // nothing was decided, and the server repeats the step
			}
			if err != nil {
				t.Errorf("%s: %v", in.IdempotencyKey, err)
				return
			}
			mutex.Lock()
			defer mutex.Unlock()
			answers[in.IdempotencyKey] = append(answers[in.IdempotencyKey], reply)
		})
	}
	for i := range 200 {
		ask(i, fmt.Sprintf("request-%d", i))
		if i%2 == 0 {
			ask(i, fmt.Sprintf("repeat-%d", i))
		}
	}
	close(start)
	group.Wait()
	return answers
}

// waitedTooLong says that a lock was not had within lock_timeout, as on a busy machine: of two hundred, the last waits for all others.
func waitedTooLong(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "55P03" // lock_not_available
}

func TestTwoHundredAdmissionsAtOnce(t *testing.T) {
	cases := map[string]struct {
		nodes   int
		oneUser bool
		refused fault.Code
	}{
		"one user with limit 50 and 200 nodes": {nodes: 200, oneUser: true, refused: fault.AllocationConcurrencyLimit},
		"200 users on 50 nodes":                {nodes: 50, refused: fault.SKUUnavailable},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.nodes, store.MaxConnections(40))
			principals := make([]identity.Principal, 200)
			for i := range principals {
				if i == 0 || !test.oneUser {
					principals[i] = w.tenant(fmt.Sprintf("user-%d", i), 200*runwayOfOne)
				} else {
					principals[i] = principals[0]
				}
			}
			answers := crowd(t, w, func(i int) identity.Principal { return principals[i] })

			nodes := map[id.Node]string{}
			admitted := 0
			for key, replies := range answers {
				first := replies[0]
				fresh := 0
				for _, reply := range replies {
					if !reply.Replayed {
						fresh++
					}
					if reply.Admitted != first.Admitted || (reply.Fault != nil && reply.Fault.Message != first.Fault.Message) || (reply.Terms != nil && reply.Terms.Lease != first.Terms.Lease) {
						t.Errorf("%s got two answers: %+v and %+v", key, first, reply)
					}
				}
				if fresh != 1 {
					t.Errorf("%s was decided %d times", key, fresh)
				}
				if !first.Admitted {
					if first.Fault.Code != string(test.refused) {
						t.Errorf("%s was refused with %s", key, first.Fault.Code)
					}
					continue
				}
				admitted++
				if other, twice := nodes[first.Terms.Lease.NodeID]; twice {
					t.Errorf("%s and %s hold %s", key, other, first.Terms.Lease.NodeID)
				}
				nodes[first.Terms.Lease.NodeID] = key
			}
			if admitted != 50 {
				t.Errorf("%d of %d keys were admitted, not 50", admitted, len(answers))
			}
			for statement, want := range map[string]int{
				"SELECT count(*) FROM allocations":                                  50,
				"SELECT count(*) FROM node_leases WHERE closed_at IS NULL":          50,
				"SELECT count(DISTINCT node_id) FROM node_leases":                   50,
				"SELECT count(*) FROM nodes WHERE claimed_by IS NOT NULL":           50,
				"SELECT count(*) FROM allocation_transitions":                       50,
				"SELECT count(*) FROM outbox":                                       50,
				"SELECT count(*) FROM idempotency_records WHERE status IS NOT NULL": len(answers),
			} {
				if got := w.count(statement); got != want {
					t.Errorf("%s answers %d, not %d", statement, got, want)
				}
			}
		})
	}
}
