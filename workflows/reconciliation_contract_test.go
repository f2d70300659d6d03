package workflows_test

import (
	"encoding/json"
	"testing"

	"github.com/gpuaas/gpuaas/workflows"
)

// What a finding says is data: only the workflows that a reconciliation misses money's work of are started on its word.
func TestAResumptionStartsNothingElse(t *testing.T) {
	for detail, want := range map[string]bool{
		`{"workflow_id":"payment/p","workflow_type":"Payment","task_queue":"payments","signal":"look","input":{"payment_id":"p"}}`:             true,
		`{"workflow_id":"refund/r","workflow_type":"Refund","task_queue":"payments","signal":"look","input":{"refund_id":"r"}}`:                true,
		`{"workflow_id":"dispute/d","workflow_type":"Dispute","task_queue":"payments","signal":"look","input":{"dispute_id":"d"}}`:             true,
		`{"workflow_id":"funds/a","workflow_type":"Funds","task_queue":"allocations","signal":"changed","input":{"account_id":"a"}}`:           true,
		`{"workflow_id":"funds/a","workflow_type":"Funds","task_queue":"allocations","signal":"look","input":{"account_id":"a"}}`:              false,
		`{"workflow_id":"allocation/a","workflow_type":"Allocation","task_queue":"allocations","signal":"release","input":{"recalled":true}}`:  false,
		`{"workflow_id":"allocation/a","workflow_type":"Allocation","task_queue":"allocations","input":{"allocation_id":"a","recalled":true}}`: true,
		`{"workflow_id":"adjustment/a","workflow_type":"Adjustment","task_queue":"allocations","signal":"","input":{"amount_micros":1}}`:       false,
		`{"workflow_id":"","workflow_type":"Payment","task_queue":"payments","signal":"look","input":{"payment_id":"p"}}`:                      false,
		`{"workflow_id":"payment/p","workflow_type":"Payment","task_queue":"","signal":"look","input":{"payment_id":"p"}}`:                     false,
		`{"workflow_id":"payment/p","workflow_type":"Payment","task_queue":"payments","signal":"look"}`:                                        false,
		`{}`: false,
	} {
		var missing workflows.Resumption
		if err := json.Unmarshal([]byte(detail), &missing); err != nil {
			t.Fatal(err)
		}
		if got := missing.Valid(); got != want {
			t.Errorf("%s is valid: %v", detail, got)
		}
	}
}
