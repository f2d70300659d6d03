package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/billing"
)

// doing is what the run is busy with: one sentence for a person, the step and its attempt for a program.
type doing struct {
	sentence   string
	step       string
	attempt    int
	waitingFor string
	deadline   *time.Time
}

func (a *allocationRun) doing(now doing) { a.now = now }

// explain answers ExplainQuery. Its cost is as of the run's last step: a query does not move the workflow's clock.
func (a *allocationRun) explain(ctx workflow.Context) Explanation {
	explanation := Explanation{
		State: a.State, Version: a.Version,
		Doing: a.now.sentence, Step: a.now.step, Attempt: a.now.attempt,
		WaitingFor: a.now.waitingFor, NextDeadline: a.now.deadline,
		NodeID: a.LastNode, LastError: a.LastError, GivenUpNodes: a.GivenUp,
		CostMicros: a.ChargedMicros, ReleaseAsks: a.Asks,
	}
	if a.Anchor != nil {
		settledTo := a.PostedTo
		explanation.SettledTo = &settledTo
		if limit := a.spendingLimit(); limit != nil {
			explanation.LimitAt = &limit.AskedAt
		}
	}
	if accrued := (billing.Period{Start: a.PostedTo, End: a.meterNow(ctx)}); a.Anchor != nil && !a.Settled && accrued.End.After(accrued.Start) {
		if amount, err := accrued.Amount(a.Terms.RateMicrosPerHour, *a.Anchor); err == nil {
			explanation.CostMicros += amount
		}
	}
	switch {
	case a.forces.Len() > 0:
		explanation.PendingSignal = ForceReleaseSignal
	case a.releases.Len() > 0:
		explanation.PendingSignal = ReleaseSignal
	}
	return explanation
}

// meterNow is where the meter stands: its end once release was asked for, the workflow's clock before.
func (a *allocationRun) meterNow(ctx workflow.Context) time.Time {
	if a.MeteredTo != nil {
		return *a.MeteredTo
	}
	if a.SuspendedAt != nil {
		return *a.SuspendedAt
	}
	return milliseconds(workflow.Now(ctx))
}

// showDetails writes the story so far where the Temporal UI shows it, in Markdown.
func (a *allocationRun) showDetails(ctx workflow.Context) {
	var text strings.Builder
	fmt.Fprintf(&text, "**%s** (version %d) · %s · %s\n\n", a.State, a.Version, a.Terms.SKU, a.Terms.RuntimeMode)
	fmt.Fprintf(&text, "- tenant `%s`, account `%s`\n", a.Terms.TenantID, a.Terms.AccountID)
	fmt.Fprintf(&text, "- %s an hour, a window every %d s\n", a.Terms.RateMicrosPerHour.Exact(a.Terms.Currency), a.Terms.WindowSeconds)
	if limit := a.spendingLimit(); limit != nil && !a.Settled {
		fmt.Fprintf(&text, "- ends by its limit at %s\n", limit.AskedAt.Format(time.RFC3339Nano))
	}
	if a.LastNode != "" {
		fmt.Fprintf(&text, "- node `%s`", a.LastNode)
		if a.Lease != nil {
			fmt.Fprintf(&text, ", generation %d, in custody", a.Lease.Generation)
		}
		text.WriteString("\n")
	}
	if len(a.GivenUp) > 0 {
		fmt.Fprintf(&text, "- given up: %v\n", a.GivenUp)
	}
	if a.Anchor != nil {
		fmt.Fprintf(&text, "- metered from %s", a.Anchor.Format(time.RFC3339Nano))
		if a.MeteredTo != nil {
			fmt.Fprintf(&text, " to %s", a.MeteredTo.Format(time.RFC3339Nano))
		}
		text.WriteString("\n")
	}
	for _, hold := range a.Holds {
		fmt.Fprintf(&text, "- suspended with `%s` by %s `%s` since %s, released at %s: %s\n", hold.Subject, hold.Actor.Role, hold.Actor.ID,
			hold.At.Format(time.RFC3339Nano), hold.ReleaseAt.Format(time.RFC3339), hold.Reason)
	}
	if a.Settled {
		fmt.Fprintf(&text, "- final bill: %s\n", a.ChargedMicros.Exact(a.Terms.Currency))
	} else if a.ChargedMicros > 0 {
		fmt.Fprintf(&text, "- billed so far: %s, up to %s\n", a.ChargedMicros.Exact(a.Terms.Currency), a.PostedTo.Format(time.RFC3339Nano))
	}
	if a.Ask != nil {
		fmt.Fprintf(&text, "- release asked for by %s `%s` (%s), heard %d times: %s\n", a.Ask.Actor.Role, a.Ask.Actor.ID, a.Ask.Cause, a.Asks, a.Ask.Reason)
	}
	if a.LastError != "" {
		fmt.Fprintf(&text, "- last trouble: %s\n", a.LastError)
	}
	workflow.SetCurrentDetails(ctx, text.String())
}
