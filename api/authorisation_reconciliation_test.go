//go:build integration

package api_test

import (
	"fmt"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/workflows"
)

// reconciliationRequests ask about findings, with one of its own wherever it would be used up.
func (s *scene) reconciliationRequests() map[string]func(string) subject {
	run := s.reconciledRun()
	found := s.planted(run)
	requests := map[string]func(string) subject{
		"listReconciliations": always(subject{}),
		"startReconciliation": always(subject{body: `{}`}),
		"getReconciliation":   always(subject{path: map[string]string{"run_id": run}}),
		"listFindings":        always(subject{}),
		"getFinding":          always(subject{path: map[string]string{"finding_id": found}}),
	}
	for _, operation := range []string{"dismissFinding", "proposeCorrection"} {
		requests[operation] = func(caller string) subject {
			about := subject{path: map[string]string{"finding_id": found}, body: matrixReason}
			if caller == "platform_admin" {
				about.path["finding_id"] = s.planted(run)
			}
			return about
		}
	}
	requests["resumeFinding"] = func(caller string) subject {
		about := subject{path: map[string]string{"finding_id": found}, body: matrixReason}
		if caller == "platform_admin" {
			about.path["finding_id"] = s.abandoned(run)
		}
		return about
	}
	requests["approveCorrection"] = func(caller string) subject {
		about := subject{path: map[string]string{"correction_id": string(randomID[id.Correction]())}, body: matrixReason}
		if caller == "platform_admin" {
			about.path["correction_id"] = s.proposed(s.planted(run))
		}
		return about
	}
	return requests
}

// reconciledRun is a run that has ended.
func (s *scene) reconciledRun() string {
	run := string(randomID[id.Run]())
	s.exec(`INSERT INTO reconciliation_runs (id, whole, state, ended_at) VALUES ($1, false, 'completed', now())`, run)
	return run
}

// planted is an open finding that owes the scene's account a cent.
func (s *scene) planted(run string) string {
	s.made++
	finding := string(randomID[id.Finding]())
	s.exec(`INSERT INTO reconciliation_findings (id, check_name, kind, subject, sentence, detail, account_id, currency, amount_micros, manner, first_run_id, last_run_id)
		VALUES ($1, 'windows', 'overbilled', $2, 'It is.', '{}', $3, 'usd', 10000, 'adjustment', $4, $4)`, finding, fmt.Sprintf("scene-%d", s.made), s.account, run)
	return finding
}

// abandoned is a finding that a payment has no workflow; the one that is begun finds no such payment.
func (s *scene) abandoned(run string) string {
	finding, payment := string(randomID[id.Finding]()), randomID[id.Payment]()
	s.exec(`INSERT INTO reconciliation_findings (id, check_name, kind, subject, sentence, detail, amount_micros, first_run_id, last_run_id)
		VALUES ($1, 'workflows', 'payment_without_workflow', $2, 'It is.', jsonb_build_object('start', jsonb_build_object('workflow_id', $3::text, 'workflow_type', 'Payment',
			'task_queue', 'payments', 'signal', 'look', 'input', jsonb_build_object('payment_id', $2::text))), 0, $4, $4)`,
		finding, string(payment), workflows.PaymentWorkflowID(payment), run)
	return finding
}

// proposed is a correction that somebody else proposed.
func (s *scene) proposed(finding string) string {
	correction := string(randomID[id.Correction]())
	s.exec(`INSERT INTO reconciliation_corrections (id, finding_id, subject, manner, account_id, currency, amount_micros, reason, second_approver, proposed_by)
		SELECT $1, id, subject, manner, account_id, currency, amount_micros, 'matrix', true, 'user_somebody' FROM reconciliation_findings WHERE id = $2`, correction, finding)
	return correction
}
