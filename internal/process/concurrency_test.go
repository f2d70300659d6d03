//go:build integration

package process_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	crowdSKU  id.SKU = "h100-8x"
	crowdSize        = 200
	crowdFits        = 50
)

// platform is both workers on a database and a namespace of their own, with nodes that the noop runtime answers for.
type platform struct {
	*storetest.Database
	cluster client.Client
	config  temporal.Config
}

func newPlatform(t *testing.T, nodes int) *platform {
	t.Helper()
	p := &platform{Database: storetest.New(t, store.MaxConnections(24)), config: temporaltest.New(t, workflows.SearchAttributes()...)}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.cluster, err = temporal.Dial(ctx, p.config, log); err != nil {
		t.Fatal(err)
	}
	logs, workers := process.LogConfig{Logger: log}, process.DefaultWorkerConfig()
	var running sync.WaitGroup
	running.Go(func() {
		config := process.BillingWorkerConfig{Temporal: p.config, Worker: workers, Log: logs,
			Database: process.DatabaseConfig{URL: p.AppURL, MaxConnections: 24}}
		if err := process.RunBillingWorker(ctx, config); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the billing worker ended: %v", err)
		}
	})
	running.Go(func() {
		config := process.ProvisioningWorkerConfig{Temporal: p.config, Worker: workers, Log: logs, ProbeSecret: strings.Repeat("s", 32)}
		if err := process.RunProvisioningWorker(ctx, config); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the provisioning worker ended: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		p.cluster.Close()
	})
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('provisioning.runtime_mode', 1, '"noop"', 'platform')`)
	p.exec(t, `INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ($1, 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`, string(crowdSKU))
	p.exec(t, `INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES ($1, $2, 'usd', 3600000, '2026-01-01')`,
		string(randomID[id.Price]()), string(crowdSKU))
	for i := range nodes {
		nodeID := randomID[id.Node]()
		if _, err := queries.InsertNode(ctx, p.App, nodeID, crowdSKU, fmt.Sprintf("node-%03d", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := queries.TransitionNode(ctx, p.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *platform) exec(t *testing.T, sql string, arguments ...any) {
	t.Helper()
	if _, err := p.Owner.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatal(err)
	}
}

func (p *platform) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	if err := p.Owner.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *platform) signIn(t *testing.T, subject string) identity.Principal {
	t.Helper()
	var signed queries.SignedIn
	err := store.InTx(t.Context(), p.App, func(ctx context.Context, tx pgx.Tx) (err error) {
		signed, err = queries.EnsureSignedIn(ctx, tx, queries.SignIn{
			Issuer: "https://issuer.test", Subject: subject, Username: subject, Currency: "usd",
			TenantID: randomID[id.Tenant](), UserID: randomID[id.User](), ProjectID: randomID[id.Project](), AccountID: randomID[id.Account](),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.exec(t, `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		VALUES ('opening_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 1000000000, 'test:' || $1::text)`, string(signed.Account.ID))
	return identity.Principal{UserID: signed.User.ID, TenantID: signed.User.TenantID, ProjectID: signed.Project.ID, AccountID: signed.Account.ID}
}

// ask is one create as the API makes it: update-with-start, waiting for Admit's answer.
func (p *platform) ask(ctx context.Context, principal identity.Principal, key, correlationID string) (workflows.AdmitReply, error) {
	entropy, body := sha256.Sum256([]byte(string(principal.UserID)+"\x00"+key)), sha256.Sum256([]byte(key))
	request := workflows.AdmitRequest{
		AllocationID: id.New[id.Allocation]([16]byte(entropy[:16])), Principal: principal, ProjectID: principal.ProjectID, SKU: crowdSKU,
		Name: "train", IdempotencyKey: key, RequestHash: body[:], CorrelationID: correlationID,
	}
	start := p.cluster.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: workflows.AllocationWorkflowID(request.AllocationID), TaskQueue: workflows.AllocationsQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, workflows.AllocationType, workflows.AllocationInput{AllocationID: request.AllocationID, AdmitBefore: time.Now().Add(time.Minute)})
	var reply workflows.AdmitReply
	handle, err := p.cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: key + "-" + hex.EncodeToString(body[:]), UpdateName: workflows.AdmitUpdate, Args: []any{request},
			WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err == nil {
		err = handle.Get(ctx, &reply)
	}
	return reply, err
}

// crowd asks for 200 keys at once, every second one of them twice, and answers what each key was told.
func (p *platform) crowd(t *testing.T, principals []identity.Principal) map[string][]workflows.AdmitReply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var asking sync.WaitGroup
	var mutex sync.Mutex
	start := make(chan struct{})
	answers := map[string][]workflows.AdmitReply{}
	ask := func(i int, correlationID string) {
		key := fmt.Sprintf("key-%03d", i)
		asking.Go(func() {
			<-start
			reply, err := p.ask(ctx, principals[i%len(principals)], key, correlationID)
			if err != nil {
				t.Errorf("%s: %v", key, err)
				return
			}
			mutex.Lock()
			defer mutex.Unlock()
			answers[key] = append(answers[key], reply)
		})
	}
	for i := range crowdSize {
		ask(i, fmt.Sprintf("first-%d", i))
		if i%2 == 0 {
			ask(i, fmt.Sprintf("repeat-%d", i))
		}
	}
	close(start)
	asking.Wait()
	return answers
}

func TestTwoHundredCreatesAtOnceThroughTemporal(t *testing.T) {
	for name, test := range map[string]struct {
		nodes, users int
		refused      fault.Code
	}{
		"one user with limit 50 and 200 nodes": {nodes: crowdSize, users: 1, refused: fault.AllocationConcurrencyLimit},
		"200 users on 50 nodes":                {nodes: crowdFits, users: crowdSize, refused: fault.SKUUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, test.nodes)
			var principals []identity.Principal
			for i := range test.users {
				principals = append(principals, p.signIn(t, fmt.Sprintf("user-%d", i)))
			}
			answers := p.crowd(t, principals)
			if len(answers) != crowdSize {
				t.Fatalf("%d of %d keys were answered", len(answers), crowdSize)
			}
			holders := map[id.Node]string{}
			for key, replies := range answers {
				for _, reply := range replies {
					sameAnswer(t, key, replies[0], reply)
				}
				// Asked once more, each key gets the same answer, from Postgres: the refused run has closed.
				i := 0
				_, _ = fmt.Sscanf(key, "key-%d", &i)
				again, err := p.ask(t.Context(), principals[i%len(principals)], key, "again")
				if err != nil {
					t.Fatal(err)
				}
				sameAnswer(t, key, replies[0], again)
				if !replies[0].Admitted {
					if got := replies[0].Fault.Code; got != string(test.refused) {
						t.Errorf("%s was refused with %s", key, got)
					}
					continue
				}
				nodeID := replies[0].Terms.Lease.NodeID
				if other, twice := holders[nodeID]; twice {
					t.Errorf("%s and %s hold %s", key, other, nodeID)
				}
				holders[nodeID] = key
			}
			if len(holders) != crowdFits {
				t.Errorf("%d keys were admitted, not %d", len(holders), crowdFits)
			}
			p.holdsExactlyTheAdmitted(t)
		})
	}
}

func sameAnswer(t *testing.T, key string, first, other workflows.AdmitReply) {
	t.Helper()
	switch {
	case first.Admitted != other.Admitted:
		t.Errorf("%s was admitted once and refused once", key)
	case first.Admitted && (first.Terms.Lease != other.Terms.Lease || first.OwnerRunID != other.OwnerRunID):
		t.Errorf("%s got two allocations: %+v and %+v", key, first.Terms.Lease, other.Terms.Lease)
	case !first.Admitted && (first.Fault.Code != other.Fault.Code || first.Fault.Message != other.Fault.Message):
		t.Errorf("%s was refused in two ways: %+v and %+v", key, first.Fault, other.Fault)
	}
}

// holdsExactlyTheAdmitted checks the rows, and that exactly their workflows are open: none lost, no orphan.
func (p *platform) holdsExactlyTheAdmitted(t *testing.T) {
	t.Helper()
	temporaltest.Eventually(t, 2*time.Minute, func() error {
		if active := p.count(t, "SELECT count(*) FROM allocations WHERE state = 'active'"); active != crowdFits {
			return fmt.Errorf("%d allocations are active", active)
		}
		return nil
	})
	for statement, want := range map[string]int{
		"SELECT count(*) FROM allocations":                                  crowdFits,
		"SELECT count(*) FROM node_leases WHERE closed_at IS NULL":          crowdFits,
		"SELECT count(DISTINCT node_id) FROM node_leases":                   crowdFits,
		"SELECT count(*) FROM nodes WHERE claimed_by IS NOT NULL":           crowdFits,
		"SELECT count(*) FROM idempotency_records WHERE status IS NOT NULL": crowdSize,
		"SELECT count(*) FROM outbox WHERE subject = 'provisioning.active'": crowdFits,
	} {
		if got := p.count(t, statement); got != want {
			t.Errorf("%s answers %d, not %d", statement, got, want)
		}
	}
	// Visibility lags behind, so wait for it to say what must be; then look at each run itself.
	var open []*workflowservice.DescribeWorkflowExecutionResponse
	temporaltest.Eventually(t, time.Minute, func() error {
		open = nil
		list, err := p.cluster.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: p.config.Namespace, PageSize: 1000, Query: "WorkflowType = 'Allocation' AND ExecutionStatus = 'Running'",
		})
		if err != nil {
			return err
		}
		for _, execution := range list.GetExecutions() {
			described, err := p.cluster.DescribeWorkflowExecution(t.Context(), execution.GetExecution().GetWorkflowId(), execution.GetExecution().GetRunId())
			if err != nil {
				return err
			}
			if described.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
				open = append(open, described)
			}
		}
		if len(open) != crowdFits {
			return fmt.Errorf("%d workflows are open", len(open))
		}
		return nil
	})
	for _, execution := range open {
		info := execution.GetWorkflowExecutionInfo()
		allocationID := strings.TrimPrefix(info.GetExecution().GetWorkflowId(), "allocation/")
		row, err := queries.GetAllocation(t.Context(), p.App, "", id.Allocation(allocationID))
		if err != nil || row.OwnerRunID != info.GetFirstRunId() {
			t.Errorf("the open run %s of %s owns nothing: %v", info.GetFirstRunId(), allocationID, err)
		}
	}
}

func randomID[K id.Kind]() K {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	return id.New[K](entropy)
}
