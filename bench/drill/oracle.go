package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
)

// An oracle judges an installation from the outside: its own SQL, its own arithmetic on big integers, the log of
// API calls, the nodes' own state and Temporal's word. It shares no code with what it judges.
type oracle struct {
	db        *pgx.Conn
	calls     []call
	nodes     map[string]nodeRemains
	workflows workflowView
	// cutOff are the allocations whose workflows the storm terminated when they had ended and their workflows had not yet.
	cutOff  map[string]bool
	out     io.Writer
	checked int
	broken  int
}

// verdict is one invariant: how many objects were looked at, and what was wrong with which.
type verdict struct {
	name    string
	objects int
	faults  []string
}

func (v *verdict) look() { v.objects++ }
func (v *verdict) fault(format string, values ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, values...))
}
func (v *verdict) expect(ok bool, format string, values ...any) {
	if !ok {
		v.fault(format, values...)
	}
}

// check is one invariant, by its name.
type check struct {
	name string
	run  func(context.Context, *verdict) error
}

// everywhere are the invariants that hold whatever was done.
func (o *oracle) everywhere() []check {
	return []check{
		{"usage is a chain from metered_from without gap or overlap", o.usageChains},
		{"usage minus credits is the charge of the metered time, to the micro", o.exactBills},
		{"every window of a running meter was posted in time", o.noWindowMissing},
		{"what an account owes is what its entries add up to, by API and by SQL", o.balances},
		{"all accounts of a currency add up to zero", o.conservation},
		{"a checkpoint says what the entries up to it say", o.checkpoints},
		{"no node had two tenants at once", o.nodeCustody},
		{"every living allocation has custody of its node, no ended one has", o.leases},
		{"a node without custody holds nothing of a tenant", o.cleanNodes},
		{"transitions follow the arrows with no version missing", o.transitions},
		{"every transition has its audit row", o.audits},
		{"every transition that others must hear of has its event, once", o.transitionEvents},
		{"every usage entry is told of in exactly one event", o.usageEvents},
		{"every accepted create is one allocation, and nothing else is", o.acceptedCreates},
		{"a repeated create got the same allocation", o.repeats},
		{"the meter stopped when release was asked for", o.releaseInstants},
		{"workflows and rows agree on what lives", o.workflowsAgree},
	}
}

// judge prints every invariant by name with the number of objects checked. An invariant that found nothing to
// check is broken too: a drill that looked at nothing proves nothing.
func (o *oracle) judge(ctx context.Context, checks []check) error {
	for _, check := range checks {
		v := &verdict{name: check.name}
		if err := check.run(ctx, v); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		o.report(v)
	}
	fmt.Fprintf(o.out, "invariants %d broken %d\n", o.checked, o.broken)
	return nil
}

func (o *oracle) report(v *verdict) {
	o.checked++
	if v.objects == 0 {
		v.fault("nothing was there to check")
	}
	word := "ok    "
	if len(v.faults) > 0 {
		word = "BROKEN"
		o.broken++
	}
	fmt.Fprintf(o.out, "%s  %-72s %6d checked\n", word, v.name, v.objects)
	for i, fault := range v.faults {
		if i == 5 {
			fmt.Fprintf(o.out, "        … and %d more\n", len(v.faults)-i)
			break
		}
		fmt.Fprintf(o.out, "        %s\n", fault)
	}
}

// charge is floor(rate × milliseconds / 3 600 000), on big integers.
func charge(rateMicrosPerHour int64, from, to time.Time) *big.Int {
	product := new(big.Int).Mul(big.NewInt(rateMicrosPerHour), big.NewInt(to.UnixMilli()-from.UnixMilli()))
	return product.Div(product, big.NewInt(3_600_000))
}

type meter struct {
	id, account, state string
	rate               int64
	window             int64
	from               time.Time
	to                 *time.Time
}

// meters reads every allocation that was ever active.
func (o *oracle) meters(ctx context.Context) ([]meter, error) {
	rows, err := o.db.Query(ctx, `SELECT id, account_id, state, rate_micros_per_hour, window_seconds::bigint, metered_from, metered_to
		FROM allocations WHERE metered_from IS NOT NULL ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m meter, err error) {
		err = row.Scan(&m.id, &m.account, &m.state, &m.rate, &m.window, &m.from, &m.to)
		return m, err
	})
}

type window struct {
	start, end time.Time
	amount     int64
}

func (o *oracle) windows(ctx context.Context, allocation string) ([]window, error) {
	rows, err := o.db.Query(ctx, `SELECT period_start, period_end, amount_micros FROM ledger_entries
		WHERE kind = 'usage' AND allocation_id = $1 ORDER BY period_start, id`, allocation)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (w window, err error) {
		err = row.Scan(&w.start, &w.end, &w.amount)
		return w, err
	})
}

func (o *oracle) usageChains(ctx context.Context, v *verdict) error {
	meters, err := o.meters(ctx)
	if err != nil {
		return err
	}
	for _, m := range meters {
		windows, err := o.windows(ctx, m.id)
		if err != nil {
			return err
		}
		expected := m.from
		for _, w := range windows {
			v.look()
			v.expect(w.start.Equal(expected), "%s: a window starts at %s and not at %s", m.id, w.start, expected)
			v.expect(w.end.After(w.start), "%s: the window at %s has no length", m.id, w.start)
			piece := new(big.Int).Sub(charge(m.rate, m.from, w.end), charge(m.rate, m.from, w.start))
			v.expect(piece.Cmp(big.NewInt(w.amount)) == 0, "%s: the window at %s cost %d and not %s", m.id, w.start, w.amount, piece)
			expected = w.end
		}
	}
	return nil
}

func (o *oracle) exactBills(ctx context.Context, v *verdict) error {
	meters, err := o.meters(ctx)
	if err != nil {
		return err
	}
	for _, m := range meters {
		if m.to == nil {
			continue
		}
		v.look()
		var usage, credits, forgiven int64
		err := o.db.QueryRow(ctx, `SELECT
				coalesce(sum(amount_micros) FILTER (WHERE kind = 'usage'), 0)::bigint,
				coalesce(sum(amount_micros) FILTER (WHERE kind = 'usage_credit'), 0)::bigint,
				coalesce(sum(amount_micros) FILTER (WHERE kind = 'outage_credit'), 0)::bigint
			FROM ledger_entries WHERE allocation_id = $1`, m.id).Scan(&usage, &credits, &forgiven)
		if err != nil {
			return err
		}
		owed := charge(m.rate, m.from, *m.to)
		v.expect(owed.Cmp(big.NewInt(usage-credits)) == 0,
			"%s: billed %d for a charge of %s micros (usage %d, credits %d, forgiven %d)", m.id, usage-credits, owed, usage, credits, forgiven)
	}
	return nil
}

// noWindowMissing holds running meters against the clock: a window that ended well before now is posted.
func (o *oracle) noWindowMissing(ctx context.Context, v *verdict) error {
	meters, err := o.meters(ctx)
	if err != nil {
		return err
	}
	var now time.Time
	if err := o.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	for _, m := range meters {
		windows, err := o.windows(ctx, m.id)
		if err != nil {
			return err
		}
		length := time.Duration(m.window) * time.Second
		end := now.Add(-3*length - 10*time.Second)
		if m.to != nil {
			end = *m.to
		}
		due := int64(end.Sub(m.from) / length)
		posted := map[int64]int{}
		for _, w := range windows {
			posted[int64(w.start.Sub(m.from)/length)]++
		}
		for n := range due {
			v.look()
			v.expect(posted[n] == 1, "%s: window %d was posted %d times", m.id, n, posted[n])
		}
	}
	return nil
}

func (o *oracle) balances(ctx context.Context, v *verdict) error {
	latest := map[string]call{}
	for _, c := range o.calls {
		if c.Operation == "balance" && c.Status == 200 {
			latest[c.Account] = c
		}
	}
	accounts := make([]string, 0, len(latest))
	for account := range latest {
		accounts = append(accounts, account)
	}
	sort.Strings(accounts)
	for _, account := range accounts {
		v.look()
		var sum int64
		err := o.db.QueryRow(ctx, `SELECT coalesce(sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END), 0)::bigint
			FROM ledger_entries WHERE (debit_account_id = $1 OR credit_account_id = $1)`, account).Scan(&sum)
		if err != nil {
			return err
		}
		v.expect(sum == latest[account].BalanceMicros, "%s: the API says %d, the entries say %d", account, latest[account].BalanceMicros, sum)
	}
	return nil
}

func (o *oracle) conservation(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT a.id, a.currency,
			(SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries e WHERE e.credit_account_id = a.id) -
			(SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries e WHERE e.debit_account_id = a.id)
		FROM accounts a`)
	if err != nil {
		return err
	}
	totals := map[string]*big.Int{}
	var account, currency string
	var balance int64
	_, err = pgx.ForEachRow(rows, []any{&account, &currency, &balance}, func() error {
		v.look()
		if totals[currency] == nil {
			totals[currency] = new(big.Int)
		}
		totals[currency].Add(totals[currency], big.NewInt(balance))
		return nil
	})
	for currency, total := range totals {
		v.expect(total.Sign() == 0, "%s: all accounts together hold %s micros", currency, total)
	}
	return err
}

func (o *oracle) checkpoints(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT c.account_id, c.up_to_id, c.balance_micros, (
			SELECT coalesce(sum(CASE WHEN credit_account_id = c.account_id THEN amount_micros ELSE -amount_micros END), 0)::bigint
			FROM ledger_entries e WHERE e.id <= c.up_to_id AND (debit_account_id = c.account_id OR credit_account_id = c.account_id))
		FROM ledger_checkpoints c`)
	if err != nil {
		return err
	}
	var account string
	var upTo, said, counted int64
	_, err = pgx.ForEachRow(rows, []any{&account, &upTo, &said, &counted}, func() error {
		v.look()
		v.expect(said == counted, "%s: the checkpoint at entry %d says %d, the entries say %d", account, upTo, said, counted)
		return nil
	})
	return err
}
