package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// reconcileCommand compares the books with everything else, and repairs them.
func (c *command) reconcileCommand() *cobra.Command {
	return group("reconcile", "The books beside allocations, workflows, nodes and Stripe", c.reconcileRunCommand(), c.reconciliationsCommand(), c.reconciliationCommand(),
		c.findingsCommand(), c.findingCommand(), c.dismissFindingCommand(), c.resumeFindingCommand(), c.correctCommand(), c.approveCommand())
}

func reconciliationTable(r client.Reconciliation) table {
	shown := fields("run", r.ID, "asked by", text(r.AskedBy), "state", string(r.State), "opened", fmt.Sprint(r.Opened), "resolved", fmt.Sprint(r.Resolved),
		"started", instant(r.StartedAt), "ended", optionalInstant(r.EndedAt))
	for _, check := range r.Checks {
		made := fmt.Sprintf("%d examined, %d found", check.Examined, check.Found)
		if check.Reason != nil {
			made += "; not made to its end: " + *check.Reason
		}
		shown.rows = append(shown.rows, []string{check.Check, made})
	}
	return shown
}

func (c *command) reconcileRunCommand() *cobra.Command {
	var whole bool
	cmd := asking(c, "run", "Compare everything now; see its findings with `list` once it has ended", none, reconciliationTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			key := newKey()
			return api.StartReconciliation(ctx, &client.StartReconciliationParams{XIdempotencyKey: &key}, client.StartReconciliationRequest{Whole: &whole})
		})
	cmd.Flags().BoolVar(&whole, "whole", false, "everything there ever was, and not only what may have changed")
	return cmd
}

func (c *command) reconciliationsCommand() *cobra.Command {
	cmd := listing(c, "List reconciliations, newest first", []string{"RUN", "STATE", "OPENED", "RESOLVED", "STARTED", "ENDED"},
		func(r client.Reconciliation) []string {
			return []string{r.ID, string(r.State), fmt.Sprint(r.Opened), fmt.Sprint(r.Resolved), instant(r.StartedAt), optionalInstant(r.EndedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListReconciliations(ctx, &client.ListReconciliationsParams{Limit: size, Cursor: cursor})
		})
	cmd.Use = "runs"
	return cmd
}

func (c *command) reconciliationCommand() *cobra.Command {
	return asking(c, "show-run RECONCILIATION", "Show a reconciliation and what each check examined", exact(1, "the reconciliation's id"), reconciliationTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetReconciliation(ctx, arguments[0])
		})
}

func owed(f client.Finding) string {
	if f.AmountMicros == 0 || f.Currency == nil {
		return ""
	}
	return amount(f.AmountMicros, *f.Currency)
}

func (c *command) findingsCommand() *cobra.Command {
	var state, kind string
	cmd := listing(c, "List what was found, newest first", []string{"FINDING", "STATE", "KIND", "SUBJECT", "OWED", "FIRST SEEN", "LAST SEEN"},
		func(f client.Finding) []string {
			return []string{f.ID, string(f.State), f.Kind, f.Subject, owed(f), instant(f.FirstSeenAt), instant(f.LastSeenAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListFindings(ctx, &client.ListFindingsParams{State: optional(client.ListFindingsParamsState(state)), Kind: optional(kind), Limit: size, Cursor: cursor})
		})
	cmd.Flags().StringVar(&state, "state", "", "only those in this state: open, resolved, dismissed")
	cmd.Flags().StringVar(&kind, "kind", "", "only those of this kind, such as unbilled")
	return cmd
}

func findingTable(f client.Finding) table {
	shown := fields("finding", f.ID, "state", string(f.State), "kind", f.Kind, "subject", f.Subject, "message", f.Message, "owed", owed(f), "account", text(f.AccountID),
		"first seen", instant(f.FirstSeenAt), "last seen", instant(f.LastSeenAt), "resolved", optionalInstant(f.ResolvedAt), "dismissed by", text(f.DismissedBy), "because", text(f.DismissedReason))
	if f.Manner != nil {
		shown.rows = append(shown.rows, []string{"correctable by", string(*f.Manner)})
	}
	if f.Resumable {
		shown.rows = append(shown.rows, []string{"resumable by", "gpuaas admin reconcile resume " + f.ID})
	}
	if f.Correction != nil {
		shown.rows = append(shown.rows, []string{"correction", f.Correction.ID + " " + string(f.Correction.State)})
	}
	return shown
}

func (c *command) findingCommand() *cobra.Command {
	return asking(c, "show FINDING", "Show a finding and its correction; with -o json, the figures behind it", exact(1, "the finding's id"), findingTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetFinding(ctx, arguments[0])
		})
}

func (c *command) dismissFindingCommand() *cobra.Command {
	return operating(c, "dismiss FINDING", "Hear no more of a finding as long as it stays as it is", exact(1, "the finding's id"), "", findingTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.DismissFinding(ctx, arguments[0], &client.DismissFindingParams{XIdempotencyKey: &key}, client.DismissFindingRequest{Reason: reason})
		})
}

func (c *command) resumeFindingCommand() *cobra.Command {
	return operating(c, "resume FINDING", "Begin the workflow that a finding misses again, where it was", exact(1, "the finding's id"), "", findingTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.ResumeFinding(ctx, arguments[0], &client.ResumeFindingParams{XIdempotencyKey: &key}, client.ResumeFindingRequest{Reason: reason})
		})
}

func correctionTable(r client.Correction) table {
	needs := ""
	if r.SecondApprover && r.State == "proposed" {
		needs = "gpuaas admin reconcile approve " + r.ID + ", by another operator"
	}
	entry := ""
	if r.LedgerEntryID != nil {
		entry = fmt.Sprint(*r.LedgerEntryID)
	}
	return fields("correction", r.ID, "state", string(r.State), "finding", r.FindingID, "account", r.AccountID, "amount", amount(r.AmountMicros, r.Currency),
		"proposed by", r.ProposedBy, "approved by", text(r.ApprovedBy), "entry", entry, "needs", needs)
}

func (c *command) correctCommand() *cobra.Command {
	return operating(c, "correct FINDING", "Correct a finding by a new ledger entry of exactly its amount", exact(1, "the finding's id"), "", correctionTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			return api.ProposeCorrection(ctx, arguments[0], &client.ProposeCorrectionParams{XIdempotencyKey: newKey()}, client.CorrectionRequest{Reason: reason})
		})
}

func (c *command) approveCommand() *cobra.Command {
	return operating(c, "approve CORRECTION", "Approve and post a correction that another operator proposed", exact(1, "the correction's id"), "", correctionTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			return api.ApproveCorrection(ctx, arguments[0], &client.ApproveCorrectionParams{XIdempotencyKey: newKey()}, client.CorrectionRequest{Reason: reason})
		})
}
