package activities

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Review judges what an account holds and writes what follows, in one transaction under the account's lock: a deposit is either
// seen, and then nothing ends, or it comes after the end was written. fault.AccountNotFound when the tenant has no such account.
func (f *Funds) Review(ctx context.Context, in workflows.ReviewFundsIn) (workflows.FundsReview, error) {
	var review workflows.FundsReview
	var crossings []billing.Crossing
	err := store.InTx(ctx, f.Pool, func(ctx context.Context, tx pgx.Tx) error {
		r, err := f.open(ctx, tx, in)
		if err != nil {
			return err
		}
		crossings = r.verdict.Crossings
		for _, crossing := range crossings {
			if err := r.write(ctx, tx, crossing); err != nil {
				return err
			}
		}
		if err := r.judgeBudgets(ctx, tx); err != nil {
			return err
		}
		if err := r.judgeTopUp(ctx, tx); err != nil {
			return err
		}
		review, err = r.answer(ctx, tx)
		return err
	})
	if err == nil {
		f.measure(ctx, crossings)
	}
	return review, err
}

// measure counts what was reached, once it is written.
func (f *Funds) measure(ctx context.Context, crossings []billing.Crossing) {
	for _, crossing := range crossings {
		if !crossing.Reached {
			continue
		}
		f.Rungs.Add(ctx, 1, string(crossing.Rung))
		if crossing.Rung == billing.Depleted {
			f.Lateness.Record(ctx, crossing.Late.Seconds())
		}
	}
}

// fundsReview is one account being judged.
type fundsReview struct {
	in       workflows.ReviewFundsIn
	now      time.Time
	currency string
	ladder   billing.Ladder
	funds    queries.AccountFunds
	verdict  billing.Verdict
	budgets  []queries.JudgedBudget
	rate     money.Micros
	// lead is how long before the threshold the card is charged, chargeWithin for how long that may be tried.
	lead, chargeWithin time.Duration
	topUp              topUp
}

// open locks the account and reads everything that decides.
func (f *Funds) open(ctx context.Context, tx pgx.Tx, in workflows.ReviewFundsIn) (*fundsReview, error) {
	account, err := queries.LockAccount(ctx, tx, in.TenantID, in.AccountID)
	if err != nil {
		return nil, orFault(err, fault.AccountNotFound)
	}
	values, err := policy.ReadForTenant(ctx, tx, in.TenantID)
	if err != nil {
		return nil, err
	}
	threshold, err := money.FromMinor(values.Int(authored.BillingLowBalanceThresholdMinor))
	if err != nil {
		return nil, err
	}
	standings, err := queries.FundsStandings(ctx, tx, in.TenantID, in.AccountID)
	if err != nil {
		return nil, err
	}
	r := &fundsReview{
		in: in, currency: account.Currency, ladder: billing.Ladder{ThresholdMicros: threshold, Grace: values.Seconds(authored.BillingAutoReleaseGraceSeconds)},
		lead: values.Seconds(authored.PaymentsAutoTopupLeadSeconds), chargeWithin: values.Seconds(authored.PaymentsCheckoutTTLSeconds),
	}
	if r.funds, err = queries.ReadFunds(ctx, tx, in.TenantID, in.AccountID); err != nil {
		return nil, err
	}
	// Not before what was just read: a clock behind the database's would see money that was taken out already.
	r.now = milliseconds(f.Now())
	if r.verdict, err = r.ladder.Judge(r.funds.Funds, standingsOf(standings), r.now); err != nil {
		return nil, fault.Wrap(err, fault.AmountOutOfRange, "What the account's meters cost does not fit the ledger.")
	}
	r.rate, err = r.funds.RateMicrosPerHour(r.now)
	return r, err
}

func standingsOf(rows []queries.FundsStanding) map[billing.Rung]billing.Standing {
	standing := make(map[billing.Rung]billing.Standing, len(rows))
	for _, row := range rows {
		standing[row.Rung] = billing.Standing{Crossing: row.Crossing, Stands: row.Stands(), At: row.At, Deadline: row.Deadline}
	}
	return standing
}

// write puts a crossing down with its event. Leaving a rung is a row alone: what brought the money has an event of its own.
func (r *fundsReview) write(ctx context.Context, tx pgx.Tx, crossing billing.Crossing) error {
	if err := queries.InsertFundsCrossing(ctx, tx, queries.FundsCrossing{
		TenantID: r.in.TenantID, AccountID: r.in.AccountID, Crossing: crossing, BalanceMicros: r.funds.BalanceMicros,
		AvailableMicros: r.verdict.AvailableMicros, CorrelationID: r.in.CorrelationID,
	}); err != nil || !crossing.Reached {
		return err
	}
	return queries.InsertOutbox(ctx, tx, r.event(crossing))
}

// answer is what the workflow acts on and shows.
func (r *fundsReview) answer(ctx context.Context, tx pgx.Tx) (workflows.FundsReview, error) {
	standings, err := queries.FundsStandings(ctx, tx, r.in.TenantID, r.in.AccountID)
	if err != nil {
		return workflows.FundsReview{}, err
	}
	review := workflows.FundsReview{
		At: r.now, Currency: r.currency, BalanceMicros: r.funds.BalanceMicros, AvailableMicros: r.verdict.AvailableMicros, RateMicrosPerHour: r.rate,
		LowAt: r.verdict.LowAt, PendingAt: r.verdict.PendingAt, ZeroAt: r.verdict.ZeroAt, Next: r.next(),
		Releases: r.releases(), TopUp: r.topUp.charge,
	}
	for _, draw := range r.funds.Draws {
		if draw.Runs(r.now) {
			review.Costing++
		}
	}
	for _, rung := range billing.Rungs() {
		for _, row := range standings {
			if row.Rung == rung && row.Stands() {
				review.Standing = append(review.Standing, workflows.FundsRung{
					Rung: row.Rung, Crossing: row.Crossing, At: row.At, Deadline: row.Deadline, LateMS: row.LateMS, WrittenOffMicros: row.WrittenOffMicros,
				})
			}
		}
	}
	return review, nil
}

// ending are the allocations that end with the money: what is in use, and what is being prepared. What a suspension holds costs
// nothing, and keeps its notice.
func (r *fundsReview) ending() []queries.FundedAllocation {
	var ending []queries.FundedAllocation
	for _, held := range r.funds.Allocations {
		switch held.State {
		case allocation.Requested, allocation.Provisioning, allocation.Active:
			if !held.Suspended {
				ending = append(ending, held)
			}
		}
	}
	return ending
}
