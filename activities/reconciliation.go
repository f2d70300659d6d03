package activities

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Reconciliation compares the ledger with everything that is not the payment provider's, and posts corrections. Its tools are the database,
// the ledger's writer, the cluster, the policy, the clock, the log, and what measures its runs.
type Reconciliation struct {
	Pool    *pgxpool.Pool
	Ledger  *Ledger
	Cluster client.Client
	Policy  IntPolicy
	Now     func() time.Time
	Log     *slog.Logger
	// Runs counts the runs that ended, by outcome; Duration measures how long they took, in seconds.
	Runs     telemetry.Counter
	Duration telemetry.Histogram
}

// Bind registers the steps of Reconciliation and Correction that are not the payment provider's.
func (r *Reconciliation) Bind(registry worker.ActivityRegistry) {
	workflows.StepBeginReconciliation.Bind(registry, r.Begin)
	workflows.StepCheck.Bind(registry, r.Check)
	workflows.StepFinishReconciliation.Bind(registry, r.Finish)
	workflows.StepCorrect.Bind(registry, r.Correct)
}

// Begin writes a run down and answers what its checks go by. A repeat finds the run.
func (r *Reconciliation) Begin(ctx context.Context, in workflows.BeginReconciliation) (workflows.ReconciliationTerms, error) {
	terms := workflows.ReconciliationTerms{RunID: in.RunID}
	if terms.RunID == "" {
		sum := sha256.Sum256([]byte(in.Key))
		terms.RunID = id.New[id.Run]([16]byte(sum[:16]))
	}
	if err := queries.InsertReconciliationRun(ctx, r.Pool, terms.RunID, in.AskedBy, in.Whole); err != nil {
		return terms, err
	}
	run, err := queries.GetReconciliationRun(ctx, r.Pool, terms.RunID)
	if err != nil {
		return terms, err
	}
	terms.StartedAt = milliseconds(run.StartedAt)
	if terms.LagSeconds, err = r.Policy.Int(ctx, authored.ReconciliationLagToleranceSeconds); err != nil {
		return terms, err
	}
	days, err := r.Policy.Int(ctx, authored.ReconciliationLookbackDays)
	if err != nil {
		return terms, err
	}
	if terms.EntriesUpTo, err = queries.NewestSeal(ctx, r.Pool, queries.SealedLedger); err != nil || run.Whole {
		terms.ProviderSince = time.Unix(0, 0).UTC()
		return terms, err
	}
	since := terms.StartedAt.AddDate(0, 0, -int(days))
	terms.Since, terms.ProviderSince = &since, since
	terms.EntriesAfter, err = queries.ReconciledEntries(ctx, r.Pool)
	return terms, err
}

// Check makes a stretch of a check. Fault: InvalidRequest for one that is not made here.
func (r *Reconciliation) Check(ctx context.Context, in workflows.CheckIn) (workflows.CheckOut, error) {
	var page func(context.Context, workflows.ReconciliationTerms, *workflows.CheckCursor) (found []reconciliation.Found, done bool, err error)
	switch in.Check {
	case reconciliation.Windows:
		page = r.checkWindows
	case reconciliation.Entries:
		page = r.checkEntries
	case reconciliation.Workflows:
		page = r.checkWorkflows
	case reconciliation.Custody:
		page = r.checkCustody
	case reconciliation.Balances:
		page = r.checkBalances
	default:
		return workflows.CheckOut{}, fault.Newf(fault.InvalidRequest, "There is no check %q here.", in.Check)
	}
	out := workflows.CheckOut{Cursor: in.Cursor}
	for began := r.Now(); !out.Done && r.Now().Sub(began) < checkStretch; {
		found, done, err := page(ctx, in.Terms, &out.Cursor)
		if err == nil {
			err = report(ctx, r.Pool, r.Log, in.Terms.RunID, found)
		}
		if err != nil {
			return workflows.CheckOut{}, err
		}
		out.Cursor.Found += int64(len(found))
		out.Done = done
	}
	return out, nil
}

// checkStretch is how long one step looks: what is left is the next one's, so that a worker that stops loses little.
const checkStretch = 20 * time.Second

// snapshot reads all statements of do as of one instant. It writes nothing, takes no transaction id, and so holds nobody up.
func snapshot(ctx context.Context, pool *pgxpool.Pool, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

// findingOpened is the payload of billing.reconciliation_finding.
type findingOpened struct {
	FindingID    id.Finding           `json:"finding_id"`
	RunID        id.Run               `json:"run_id"`
	Check        reconciliation.Check `json:"check"`
	Kind         reconciliation.Kind  `json:"kind"`
	Subject      string               `json:"subject"`
	Message      string               `json:"message"`
	AccountID    id.Account           `json:"account_id,omitempty"`
	Currency     string               `json:"currency,omitempty"`
	AmountMicros money.Micros         `json:"amount_micros"`
}

// report writes what was found, each thing once with its event.
func report(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, runID id.Run, all []reconciliation.Found) error {
	if len(all) == 0 {
		return nil
	}
	// Two runs meet in the same order.
	sort.Slice(all, func(i, j int) bool {
		return all[i].Kind < all[j].Kind || all[i].Kind == all[j].Kind && all[i].Subject < all[j].Subject
	})
	return store.InTx(ctx, pool, func(ctx context.Context, tx pgx.Tx) error {
		for _, found := range all {
			sum := sha256.Sum256([]byte(string(runID) + "\x00" + string(found.Kind) + "\x00" + found.Subject))
			findingID, opened, err := queries.SeeFinding(ctx, tx, id.New[id.Finding]([16]byte(sum[:16])), runID, found)
			if err != nil {
				return err
			}
			if !opened {
				continue
			}
			log.ErrorContext(ctx, "alarm: the books do not fit", "finding_id", string(findingID), "kind", string(found.Kind), "subject", found.Subject, "amount_micros", int64(found.AmountMicros))
			if err := queries.InsertOutbox(ctx, tx, queries.Event{
				Type: event.BillingReconciliationFinding, Fact: string(findingID) + "/" + string(runID), AggregateID: string(findingID), OccurredAt: time.Now(), CorrelationID: string(runID),
				Payload: findingOpened{FindingID: findingID, RunID: runID, Check: found.Kind.Check(), Kind: found.Kind, Subject: found.Subject, Message: found.Sentence,
					AccountID: found.AccountID, Currency: found.Currency, AmountMicros: found.AmountMicros},
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// mostAgain bounds how many findings are looked at again for their own sake.
const mostAgain = 10_000

// uncorrected takes what corrections have already given or taken off what was found, and leaves out what they made right.
func uncorrected(ctx context.Context, db queries.DB, all []reconciliation.Found) ([]reconciliation.Found, error) {
	subjects := make([]string, len(all))
	for i, found := range all {
		subjects[i] = found.Subject
	}
	corrected, err := queries.CorrectedMicros(ctx, db, subjects)
	if err != nil {
		return nil, err
	}
	var left []reconciliation.Found
	for _, found := range all {
		given := corrected[found.Subject]
		if found.AmountMicros -= given; given != 0 && found.AmountMicros == 0 {
			continue
		}
		left = append(left, found)
	}
	return left, nil
}

// Finish closes the findings that the checks saw no more, and writes what the run came to. A repeat answers the same.
func (r *Reconciliation) Finish(ctx context.Context, in workflows.FinishReconciliation) (workflows.ReconciliationResult, error) {
	result := workflows.ReconciliationResult{RunID: in.Terms.RunID, State: queries.RunCompleted, Checks: in.Made}
	run := queries.ReconciliationRun{ID: in.Terms.RunID}
	var made []reconciliation.Check
	for _, check := range in.Made {
		if check.Reason != "" {
			result.State = queries.RunIncomplete
			continue
		}
		made = append(made, check.Check)
		if check.Check == reconciliation.Entries {
			run.EntriesUpTo = in.Terms.EntriesUpTo
		}
	}
	checks, err := json.Marshal(in.Made)
	if err != nil {
		return result, err
	}
	run.State, run.Checks = result.State, checks
	ended := false
	err = store.InTx(ctx, r.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := queries.ResolveFindings(ctx, tx, run.ID, made); err != nil {
			return err
		}
		var err error
		if run.Opened, run.Resolved, err = queries.CountFindings(ctx, tx, run.ID); err != nil {
			return err
		}
		ended, err = queries.EndReconciliationRun(ctx, tx, run)
		return err
	})
	if err == nil && ended {
		r.Runs.Add(ctx, 1, run.State)
		r.Duration.Record(ctx, r.Now().Sub(in.Terms.StartedAt).Seconds())
	}
	result.Opened, result.Resolved = run.Opened, run.Resolved
	for _, check := range in.Made {
		r.Log.InfoContext(ctx, "reconciled", "run_id", string(run.ID), "check", string(check.Check), "examined", check.Examined, "found", check.Found, "reason", check.Reason)
	}
	return result, err
}
