//go:build integration

package process_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	crowdSKU  id.SKU = "h100-8x"
	crowdSize        = 200
	crowdFits        = 50
)

// crowd asks for 200 keys at once, every second one of them twice, and answers what each key was told.
func (p *platform) crowd(t *testing.T, people []person) map[string][]answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var asking sync.WaitGroup
	var mutex sync.Mutex
	start := make(chan struct{})
	answers := map[string][]answer{}
	ask := func(i int) {
		key := fmt.Sprintf("key-%03d", i)
		asking.Go(func() {
			<-start
			reply, err := p.ask(ctx, people[i%len(people)], key)
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
		ask(i)
		if i%2 == 0 {
			ask(i)
		}
	}
	close(start)
	asking.Wait()
	return answers
}

func TestTwoHundredCreatesAtOnceThroughTheAPI(t *testing.T) {
	for name, test := range map[string]struct {
		nodes, users int
		refused      fault.Code
	}{
		"one user with limit 50 and 200 nodes": {nodes: crowdSize, users: 1, refused: fault.AllocationConcurrencyLimit},
		"200 users on 50 nodes":                {nodes: crowdFits, users: crowdSize, refused: fault.SKUUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, test.nodes)
			var people []person
			for i := range test.users {
				people = append(people, p.signIn(t, fmt.Sprintf("user-%d", i)))
			}
			answers := p.crowd(t, people)
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
				again, err := p.ask(t.Context(), people[i%len(people)], key)
				if err != nil {
					t.Fatal(err)
				}
				sameAnswer(t, key, replies[0], again)
				if !again.replayed {
					t.Errorf("%s, asked again, is not said to be a replay", key)
				}
				if replies[0].status != http.StatusCreated {
					if got := replies[0].body.Code; got != test.refused {
						t.Errorf("%s was refused with %s", key, got)
					}
					continue
				}
				nodeID := replies[0].body.NodeID
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

func sameAnswer(t *testing.T, key string, first, other answer) {
	t.Helper()
	if first.status != other.status || first.body != other.body {
		t.Errorf("%s got two answers: %+v and %+v", key, first, other)
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
