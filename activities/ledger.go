package activities

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// IntPolicy reads a whole-number policy value; internal/policy.Client is one.
type IntPolicy interface {
	Int(ctx context.Context, key policy.IntKey) (int64, error)
}

// Ledger is the only writer of the ledger. Its tools are the database, the policy, the clock and the log. Postings that
// arrive together share one statement, so a worker has one Ledger, made by NewLedger and closed by Close.
type Ledger struct {
	pool   *pgxpool.Pool
	policy IntPolicy
	now    func() time.Time
	log    *slog.Logger

	group *groupCommit
	stats ledgerCounters
	// windows measures how many windows a statement takes.
	windows telemetry.Histogram

	platformMutex sync.Mutex
	// platform caches the platform's accounts, whose rows never change.
	platform map[platformKey]id.Account
}

type platformKey struct{ kind, currency string }

// NewLedger makes the ledger's writer on a pool.
func NewLedger(pool *pgxpool.Pool, values IntPolicy, now func() time.Time, log *slog.Logger) *Ledger {
	l := &Ledger{pool: pool, policy: values, now: now, log: log, platform: map[platformKey]id.Account{}}
	l.group = newGroupCommit(l.commit)
	return l
}

// Measure has the size of each posting statement measured, in windows. It comes before the first posting.
func (l *Ledger) Measure(windows telemetry.Histogram) { l.windows = windows }

// Bind registers the steps that write the ledger.
func (l *Ledger) Bind(registry worker.ActivityRegistry) {
	workflows.StepPostWindows.Bind(registry, l.PostWindows)
	workflows.StepSettleEnd.Bind(registry, l.SettleEnd)
	workflows.StepSettleSuspension.Bind(registry, l.SettleSuspension)
	workflows.StepAdjust.Bind(registry, l.Adjust)
}

// Close lets every posting that was accepted end and refuses further ones.
func (l *Ledger) Close() { l.group.close() }

// MaxStatementWindows is how many windows one statement takes at most.
const MaxStatementWindows = 1000

// PostWindows posts every whole window of [From, To), in order, each once. A window
// that stands already is compared with what would have been posted: a difference is fault.LedgerConflict. After the
// settlement of the meter's end it is fault.AllocationNotActive.
func (l *Ledger) PostWindows(ctx context.Context, in workflows.PostWindowsIn) (workflows.PostWindowsOut, error) {
	limit, err := l.policy.Int(ctx, policy.BillingCatchUpMaxWindows)
	if err != nil {
		return workflows.PostWindowsOut{}, err
	}
	periods, err := dueWindows(in, int(limit))
	if err != nil {
		return workflows.PostWindowsOut{}, err
	}
	out := workflows.PostWindowsOut{PostedTo: milliseconds(in.From)}
	if len(periods) == 0 {
		return out, nil
	}
	forgiven, err := l.forgiven(ctx, in, periods)
	if err != nil {
		return workflows.PostWindowsOut{}, err
	}
	for len(periods) > 0 {
		part := periods[:min(len(periods), MaxStatementWindows)]
		periods = periods[len(part):]
		posting, err := newPosting(in.Meter, part)
		if err != nil {
			return workflows.PostWindowsOut{}, err
		}
		if forgiven != nil {
			out.ForgivenMicros, err = l.postForgiving(ctx, posting, *forgiven)
			forgiven = nil
		} else {
			err = l.group.post(ctx, posting)
		}
		if err != nil {
			return workflows.PostWindowsOut{}, fmt.Errorf("post the windows of %s: %w", in.Meter.AllocationID, err)
		}
		out.PostedTo = part[len(part)-1].End
		out.ChargedMicros += posting.total
	}
	return out, nil
}

// dueWindows cuts the whole windows of [From, To).
func dueWindows(in workflows.PostWindowsIn, limit int) ([]billing.Period, error) {
	anchor, from, to := milliseconds(in.Meter.Anchor), milliseconds(in.From), milliseconds(in.To)
	window := time.Duration(in.Meter.WindowSeconds) * time.Second
	if window <= 0 || from.Before(anchor) {
		return nil, fault.Newf(fault.InvalidRequest, "The windows of %s from %s do not lie on a meter of %d s anchored at %s.",
			in.Meter.AllocationID, from, in.Meter.WindowSeconds, anchor)
	}
	// A partial window belongs to the settlement of the end alone.
	whole := anchor.Add(to.Sub(anchor).Truncate(window))
	return billing.Windows(anchor, from, whole, window, limit), nil
}

// posting is the windows of one caller: what a statement takes whole or not at all.
type posting struct {
	meter   workflows.Meter
	periods []billing.Period
	amounts []money.Micros
	total   money.Micros

	abandoned func() bool
	done      chan error
}

func newPosting(meter workflows.Meter, periods []billing.Period) (*posting, error) {
	p := &posting{meter: meter, periods: periods, amounts: make([]money.Micros, len(periods)), done: make(chan error, 1)}
	anchor := milliseconds(meter.Anchor)
	for i, period := range periods {
		amount, err := period.Amount(meter.RateMicrosPerHour, anchor)
		if err != nil {
			return nil, fault.Wrap(err, fault.AmountOutOfRange, "The charge of a window does not fit the ledger.")
		}
		p.amounts[i] = amount
		p.total += amount
	}
	return p, nil
}

// platformAccount answers the platform's account of a kind and a currency.
func (l *Ledger) platformAccount(ctx context.Context, kind, currency string) (id.Account, error) {
	key := platformKey{kind, currency}
	l.platformMutex.Lock()
	account, known := l.platform[key]
	l.platformMutex.Unlock()
	if known {
		return account, nil
	}
	account, err := queries.PlatformAccount(ctx, l.pool, kind, currency)
	if err != nil {
		return "", err
	}
	l.platformMutex.Lock()
	l.platform[key] = account
	l.platformMutex.Unlock()
	return account, nil
}

// knowPlatform reads the platform's accounts before a transaction begins: inside one, a second connection might be
// waited for by everybody who holds a first.
func (l *Ledger) knowPlatform(ctx context.Context, currency string) error {
	for _, kind := range []string{queries.AccountPlatformRevenue, queries.AccountPlatformCredit} {
		if _, err := l.platformAccount(ctx, kind, currency); err != nil {
			return err
		}
	}
	return nil
}
