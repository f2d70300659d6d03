package api

import (
	"context"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type runwayBody struct {
	AccountID         id.Account   `json:"account_id"`
	Currency          string       `json:"currency"`
	AvailableMicros   int64        `json:"available_micros" doc:"Balance less what has accrued."`
	RateMicrosPerHour int64        `json:"rate_micros_per_hour" doc:"What costs money now costs together."`
	ThresholdMicros   int64        `json:"low_balance_threshold_micros"`
	GraceSeconds      int64        `json:"auto_release_grace_seconds" doc:"How long before the end the release is announced."`
	LowBalanceAt      *moment      `json:"low_balance_at,omitempty" doc:"When no more than the threshold is left; absent for never."`
	AnnouncedAt       *moment      `json:"auto_release_announced_at,omitempty" doc:"When the release of what runs is announced; absent for never."`
	DepletedAt        *moment      `json:"depleted_at,omitempty" doc:"When the balance is used up and what runs is released; absent for never."`
	Rungs             []runwayRung `json:"rungs" doc:"What has been reached and stands."`
	Watch             *runwayWatch `json:"watch,omitempty"`
	AsOf              moment       `json:"as_of"`
}

type runwayRung struct {
	Rung             string  `json:"rung" enum:"low_balance,auto_release_pending,balance_depleted"`
	Crossing         int64   `json:"crossing" doc:"How often the account has come down to it."`
	At               moment  `json:"at"`
	Deadline         *moment `json:"deadline,omitempty" doc:"When the release that was announced happens."`
	LateMS           int64   `json:"late_ms,omitempty" doc:"How long after its instant the end of the money was found."`
	WrittenOffMicros int64   `json:"written_off_micros,omitempty" doc:"What the time in between would have cost; nobody is charged for it."`
}

type runwayWatch struct {
	Doing      string  `json:"doing"`
	NextLookAt *moment `json:"next_look_at,omitempty"`
	LastError  string  `json:"last_error,omitempty"`
}

type runwayOut struct{ Body runwayBody }

// getRunway computes the instants from the ledger, as the workflow that acts on them does, and asks that one what it is doing.
func (s *server) getRunway(ctx context.Context, _ *Where) (*runwayOut, error) {
	account, err := s.accountAt(ctx)
	if err != nil {
		return nil, err
	}
	body, err := s.runway(ctx, middleware.At(ctx).TenantID, account)
	if err != nil {
		return nil, err
	}
	body.Watch = s.askFunds(ctx, account)
	return &runwayOut{Body: body}, nil
}

func (s *server) runway(ctx context.Context, tenant id.Tenant, account id.Account) (runwayBody, error) {
	owned, err := s.account(ctx, account)
	if err != nil {
		return runwayBody{}, err
	}
	values, err := s.config.Policy.ForTenant(ctx, tenant)
	if err != nil {
		return runwayBody{}, err
	}
	threshold, err := money.FromMinor(values.Int(authored.BillingLowBalanceThresholdMinor))
	if err != nil {
		return runwayBody{}, err
	}
	standings, err := queries.FundsStandings(ctx, s.config.Pool, tenant, account)
	if err != nil {
		return runwayBody{}, err
	}
	funds, err := queries.ReadFunds(ctx, s.config.Pool, tenant, account)
	if err != nil {
		return runwayBody{}, err
	}
	now := s.config.Now().UTC()
	ladder := billing.Ladder{ThresholdMicros: threshold, Grace: values.Seconds(authored.BillingAutoReleaseGraceSeconds)}
	verdict, err := ladder.Judge(funds.Funds, nil, now)
	if err != nil {
		return runwayBody{}, fault.Wrap(err, fault.AmountOutOfRange, "What the account's allocations cost does not fit the ledger.")
	}
	rate, err := funds.RateMicrosPerHour(now)
	if err != nil {
		return runwayBody{}, fault.Wrap(err, fault.AmountOutOfRange, "The rates of the account's allocations add up to more than the ledger holds.")
	}
	return runwayBody{
		AccountID: account, Currency: owned.Currency, AvailableMicros: int64(verdict.AvailableMicros), RateMicrosPerHour: int64(rate),
		ThresholdMicros: int64(threshold), GraceSeconds: values.Int(authored.BillingAutoReleaseGraceSeconds),
		LowBalanceAt: maybe(verdict.LowAt), AnnouncedAt: maybe(verdict.PendingAt), DepletedAt: maybe(verdict.ZeroAt),
		Rungs: renderRungs(standings), AsOf: moment(now),
	}, nil
}

func renderRungs(standings []queries.FundsStanding) []runwayRung {
	rungs := []runwayRung{}
	for _, rung := range billing.Rungs() {
		for _, row := range standings {
			if row.Rung == rung && row.Stands() {
				rungs = append(rungs, runwayRung{Rung: string(rung), Crossing: row.Crossing, At: moment(row.At), Deadline: maybe(row.Deadline),
					LateMS: row.LateMS, WrittenOffMicros: int64(row.WrittenOffMicros)})
			}
		}
	}
	return rungs
}

// askFunds asks the run that watches the account; nil when there is none, or no worker answers in time.
func (s *server) askFunds(ctx context.Context, account id.Account) *runwayWatch {
	cluster, err := s.temporal()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	var found workflows.FundsExplanation
	described, err := cluster.DescribeWorkflowExecution(ctx, workflows.FundsWorkflowID(account), "")
	if err != nil || described.GetWorkflowExecutionInfo().GetCloseTime() != nil {
		return nil
	}
	answer, err := cluster.QueryWorkflow(ctx, workflows.FundsWorkflowID(account), "", workflows.ExplainQuery)
	if err == nil {
		err = answer.Get(&found)
	}
	if err != nil || found.Doing == "" {
		return nil
	}
	return &runwayWatch{Doing: found.Doing, NextLookAt: maybe(found.NextDeadline), LastError: found.LastError}
}
