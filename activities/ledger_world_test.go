//go:build integration

package activities_test

import (
	"bytes"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// books is a world with a ledger whose log is kept.
type books struct {
	*world
	ledger *activities.Ledger
	log    *keptLog
}

// keptLog is a log that many may write and a test reads.
type keptLog struct {
	mutex sync.Mutex
	lines bytes.Buffer
}

func (k *keptLog) Write(line []byte) (int, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.lines.Write(line)
}

func (k *keptLog) has(text string) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return bytes.Contains(k.lines.Bytes(), []byte(text))
}

func newBooks(t *testing.T) *books {
	t.Helper()
	b := &books{world: newWorld(t, 0), log: &keptLog{}}
	b.ledger = activities.NewLedger(b.App, policy.New(b.App), func() time.Time { return b.now }, slog.New(slog.NewJSONHandler(b.log, nil)))
	t.Cleanup(b.ledger.Close)
	return b
}

// meter is an active allocation of the principal that is metered from anchor.
func (b *books) meter(principal identity.Principal, rate money.Micros, windowSeconds int64, anchor time.Time) workflows.Meter {
	b.t.Helper()
	price, allocation := newID[id.Price](), newID[id.Allocation]()
	b.exec(`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from)
		VALUES ($1, $2, 'usd', $3, clock_timestamp() + random() * interval '300 years')`, price, testSKU, int64(rate))
	b.exec(`INSERT INTO allocations (id, tenant_id, project_id, user_id, account_id, currency, name, sku_id, price_id, rate_micros_per_hour,
			window_seconds, windows_per_settlement, runtime_mode, isolation_model, state, node_id, metered_from, correlation_id)
		VALUES ($1, $2, $3, $4, $5, 'usd', 'a', $6, $7, $8, $9, 1, 'noop', 'user-revoke', 'active', 'node_a', $10, 'correlation')`,
		allocation, principal.TenantID, principal.ProjectID, principal.UserID, principal.AccountID, testSKU, price, int64(rate), windowSeconds, anchor)
	return workflows.Meter{
		AllocationID: allocation, TenantID: principal.TenantID, AccountID: principal.AccountID, Currency: "usd",
		RateMicrosPerHour: rate, WindowSeconds: windowSeconds, Anchor: anchor, CorrelationID: "correlation",
	}
}

// windows asks for the windows from the n-th to before the m-th.
func windows(meter workflows.Meter, n, m int64) workflows.PostWindowsIn {
	window := time.Duration(meter.WindowSeconds) * time.Second
	from, to := meter.Anchor.Add(time.Duration(n)*window), meter.Anchor.Add(time.Duration(m)*window)
	return workflows.PostWindowsIn{Meter: meter, From: from, To: to, Now: to}
}

func (b *books) balance(account id.Account) money.Micros {
	b.t.Helper()
	balance, err := queries.Balance(b.t.Context(), b.App, account)
	if err != nil {
		b.t.Fatal(err)
	}
	return balance
}

// summed is the balance by the plain sum over every entry: what no checkpoint can change.
func (b *books) summed(account id.Account) money.Micros {
	b.t.Helper()
	var sum int64
	err := b.Owner.QueryRow(b.t.Context(), `SELECT coalesce(sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END), 0)::bigint
		FROM ledger_entries WHERE $1 IN (credit_account_id, debit_account_id)`, account).Scan(&sum)
	if err != nil {
		b.t.Fatal(err)
	}
	return money.Micros(sum)
}

// exactCharge is the charge rule over integers without bounds.
func exactCharge(meter workflows.Meter, to time.Time) money.Micros {
	product := new(big.Int).Mul(big.NewInt(int64(meter.RateMicrosPerHour)), big.NewInt(to.Sub(meter.Anchor).Milliseconds()))
	return money.Micros(product.Div(product, big.NewInt(3_600_000)).Int64())
}
