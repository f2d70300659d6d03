//go:build integration

package api_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// What may be wrong with refunds, disputes and amounts, and with the ends of meters, each planted once and found once and nothing else; and
// time that was not billed is, by a correction that takes it out of the balance.
func TestReconciliationFindsWhatIsWrongWithRefundsDisputesAndMeters(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 6)
	alice, bob, carol := c.token("alice"), c.token("bob"), c.token("carol")
	for _, person := range []string{alice, bob, carol} {
		c.ask("GET", "/api/v1/me", person, "", "")
	}
	planted := c.plantAtStripe(carol)
	planted = append(planted, c.plantInMeters(alice, bob)...)
	c.findAll(planted)
	if events, findings := c.field(`SELECT count(*)::text FROM outbox WHERE subject = 'billing.reconciliation_finding'`), c.field(`SELECT count(*)::text FROM reconciliation_findings`); events != findings {
		t.Errorf("%s findings have %s events", findings, events)
	}
	c.billLost(alice)
}

// refunded is a refund of a payment that Stripe has made, and what Stripe calls it.
func (c *compared) refunded(token, payment, key string) (refund, atStripe string) {
	c.t.Helper()
	asked := c.ask("POST", "/api/v1/payments/"+payment+"/refunds", token, key, `{"amount_minor":100,"reason":"too much"}`)
	c.stands("/api/v1/refunds/"+asked.text("id"), token, "succeeded")
	return asked.text("id"), c.field(`SELECT stripe_refund_id FROM refunds WHERE id = $1`, asked.text("id"))
}

// intentOf is what Stripe calls a payment.
func (c *compared) intentOf(payment string) string {
	c.t.Helper()
	return c.field(`SELECT payment_intent_id FROM payments WHERE id = $1`, payment)
}

// plantAtStripe makes payments, refunds and disputes and has one of each say something else here than there.
func (c *compared) plantAtStripe(payer string) []string {
	c.t.Helper()
	dearer, refunding, disputed, unheard := c.paid(payer, "dearer", 2500), c.paid(payer, "refunding", 5000), c.paid(payer, "disputed", 3000), c.paid(payer, "unheard", 3100)
	_, differing := c.refunded(payer, refunding, "differing")
	unfounded, _ := c.refunded(payer, refunding, "unfounded")
	dispute, _ := c.stripe.Order("dispute", map[string]any{"payment_intent": c.intentOf(disputed), "reason": "fraudulent"})["id"].(string)
	temporaltest.Eventually(c.t, time.Minute, func() error {
		if c.field(`SELECT count(*)::text FROM disputes WHERE stripe_dispute_id = $1 AND withdrawn_entry_id IS NOT NULL`, dispute) != "1" {
			return errors.New("the dispute is not known")
		}
		return nil
	})
	// From here on no webhook tells us anything.
	c.hooks.mutex.Lock()
	c.hooks.closed = true
	c.hooks.mutex.Unlock()
	byHand, _ := c.stripe.Post("/v1/refunds", url.Values{"payment_intent": {c.intentOf(refunding)}, "amount": {"150"}})["id"].(string)
	secret, _ := c.stripe.Order("dispute", map[string]any{"payment_intent": c.intentOf(unheard), "reason": "fraudulent"})["id"].(string)

	c.damage("ledger_entries", `UPDATE ledger_entries SET amount_micros = amount_micros + 40000 WHERE idempotency_key = 'stripe:pi:' || $1`, c.intentOf(dearer))
	c.damage("refunds", `UPDATE refunds SET amount_micros = amount_micros + 10000 WHERE stripe_refund_id = $1`, differing)
	c.damage("refunds", `UPDATE refunds SET stripe_refund_id = 're_nobody_knows' WHERE id = $1`, unfounded)
	c.damage("disputes", `UPDATE disputes SET amount_micros = amount_micros + 10000 WHERE stripe_dispute_id = $1`, dispute)
	return []string{
		"payment_amount_differs " + c.intentOf(dearer), "refund_amount_differs " + differing, "refund_unfounded " + unfounded, "refund_unmatched " + byHand,
		"dispute_differs " + dispute, "dispute_unmatched " + secret,
	}
}

// plantInMeters has meters end elsewhere than allocations, loses a window, bills what never ran, and takes a node from whom it serves.
func (c *compared) plantInMeters(alice, bob string) []string {
	c.t.Helper()
	ended := make([]string, 2)
	for i := range ended {
		path := c.activeAllocation(alice)
		ended[i] = idOf(path)
		temporaltest.Eventually(c.t, time.Minute, func() error {
			if c.field(`SELECT (count(*) > 3)::text FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1`, ended[i]) != "true" {
				return errors.New("too little is billed")
			}
			return nil
		})
		c.ask("POST", path+"/release", alice, fmt.Sprint("end-", i), `{}`)
		c.reach(path, alice, "released")
	}
	c.damage("ledger_settlements", `UPDATE ledger_settlements SET metered_to = metered_to - interval '1 second' WHERE allocation_id = $1`, ended[0])
	c.damage("ledger_entries", `DELETE FROM ledger_entries WHERE id = (SELECT id FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1 ORDER BY id OFFSET 2 LIMIT 1)`, ended[1])
	c.exec(`DELETE FROM ledger_checkpoints`) // of what was there before

	// One that never ran, and is credited.
	never := string(randomID[id.Allocation]())
	columns := c.field(`SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
		WHERE table_name = 'allocations' AND table_schema = 'public' AND is_generated = 'NEVER' AND column_name NOT IN ('id', 'state', 'metered_from', 'metered_to')`)
	c.damage("allocations", fmt.Sprintf(`INSERT INTO allocations (id, state, %[1]s) SELECT $1, 'failed', %[1]s FROM allocations WHERE id = $2`, columns), never, ended[0])
	c.damage("ledger_entries", `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end, idempotency_key)
		SELECT 'usage_credit', gen_random_uuid(), 'acct_platformrevenueusdaaaaaaaa', account_id, 'usd', 5000, id, '2026-01-01', '2026-01-02', 'planted' FROM allocations WHERE id = $1`, never)

	// One that runs, and whose node knows nothing of it.
	running := idOf(c.activeAllocation(bob))
	c.damage("node_leases", `UPDATE node_leases SET closed_at = now(), closed_by = 'operator' WHERE allocation_id = $1`, running)
	c.damage("nodes", `UPDATE nodes SET claimed_by = NULL, scheduling = 'cordoned' WHERE claimed_by = $1`, running)
	return []string{
		"settlement_differs " + ended[0], "unbilled " + ended[1], "allocation_without_claim " + running,
		"entry_contradicted " + c.field(`SELECT 'ledger_entry/' || id FROM ledger_entries WHERE idempotency_key = 'planted'`),
	}
}

// billLost corrects what was not billed: exactly that is taken out of the balance, and it is found no more.
func (c *compared) billLost(alice string) {
	c.t.Helper()
	ruth := c.token("ruth", "admin")
	c.ask("GET", "/api/v1/me", ruth, "", "")
	finding, balance := c.finding("unbilled"), c.balance(alice)
	proposed := c.ask("POST", reconciliations+"findings/"+finding+"/corrections", c.root, "propose", mending)
	amount, _ := proposed.fields()["amount_micros"].(float64)
	if proposed.status != 201 || amount != -1000 { // a window of a second at 3.6 an hour
		c.t.Fatalf("a proposal is answered %d %s", proposed.status, proposed.body)
	}
	if approved := c.ask("POST", reconciliations+"corrections/"+proposed.text("id")+"/approve", ruth, "approve", mending); approved.status != 200 {
		c.t.Fatalf("an approval is answered %d %s", approved.status, approved.body)
	}
	if got := c.balance(alice); got != balance-1000 {
		c.t.Errorf("the balance is %d micros, not %d", got, balance-1000)
	}
	if entry := c.field(`SELECT kind || ' ' || amount_micros FROM ledger_entries WHERE id = (SELECT entry_id FROM reconciliation_corrections WHERE finding_id = $1)`, finding); entry != "adjustment_debit 1000" {
		c.t.Errorf("the entry is %q", entry)
	}
	c.reconcile(false)
	if state := c.field(`SELECT state FROM reconciliation_findings WHERE id = $1`, finding); state != "resolved" {
		c.t.Errorf("it is %s after its correction", state)
	}
}

// A payment that is held and was paid back at Stripe, by hand or by a bank, is nobody's: what is left of it is offered, and nothing once nothing is.
func TestReconciliationOffersOnlyWhatStripeStillHas(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 1)
	alice, carol, ruth := c.token("alice"), c.penniless("carol"), c.token("ruth", "admin")
	for _, person := range []string{alice, ruth} {
		c.ask("GET", "/api/v1/me", person, "", "")
	}
	c.activeAllocation(alice) // so that there are windows and entries to look at
	held := func(key string, minor int64) (intent string) {
		t.Helper()
		opened := c.deposit(carol, key, minor)
		c.damage("payments", `UPDATE payments SET amount_micros = amount_micros + 10000 WHERE id = $1`, opened.text("id"))
		intent, _ = c.stripe.Pay(opened.text("checkout_url"), "pay")["payment_intent"].(string)
		c.stands("/api/v1/payments/"+opened.text("id"), carol, "held")
		return intent
	}
	back := func(intent, units string) {
		t.Helper()
		c.stripe.Post("/v1/refunds", url.Values{"payment_intent": {intent}, "amount": {units}})
	}
	partly, wholly, taken, whole := held("partly", 5000), held("wholly", 4000), held("taken", 3000), held("whole", 2000)
	back(partly, "1500")
	back(wholly, "1000")
	c.stripe.Order("dispute", map[string]any{"payment_intent": taken, "reason": "fraudulent"})
	offers := func() string {
		t.Helper()
		return c.field(`SELECT coalesce(string_agg(subject || ' ' || amount_micros, ', ' ORDER BY amount_micros), '') FROM reconciliation_findings WHERE kind = 'payment_unmatched' AND state = 'open' AND manner = 'deposit'`)
	}
	offered := func(want string) {
		t.Helper()
		temporaltest.Eventually(t, 2*time.Minute, func() error {
			c.reconcile(true)
			if got := offers(); got != want {
				return fmt.Errorf("it offers %q, not %q", got, want)
			}
			return nil
		})
	}
	offered(fmt.Sprintf("%s 20000000, %s 30000000, %s 35000000", whole, wholly, partly))
	back(wholly, "3000")
	offered(fmt.Sprintf("%s 20000000, %s 35000000", whole, partly))
	balance := c.balance(carol)
	finding := c.field(`SELECT id FROM reconciliation_findings WHERE kind = 'payment_unmatched' AND state = 'open' AND subject = $1`, partly)
	proposed := c.ask("POST", reconciliations+"findings/"+finding+"/corrections", c.root, "propose", mending)
	if approved := c.ask("POST", reconciliations+"corrections/"+proposed.text("id")+"/approve", ruth, "approve", mending); approved.status != 200 {
		t.Fatalf("an approval is answered %d %s", approved.status, approved.body)
	}
	if got := c.balance(carol); got != balance+35_000_000 {
		t.Errorf("the balance is %d micros, not %d", got, balance+35_000_000)
	}
	offered(whole + " 20000000")
	if differs := c.field(`SELECT count(*)::text FROM reconciliation_findings WHERE kind = 'payment_amount_differs'`); differs != "0" {
		t.Errorf("%s payments are said to differ", differs)
	}
}

func idOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// A run whose start Temporal refuses is written nowhere: nobody would make it, and it would be said to run for ever.
func TestARunThatTemporalRefusesIsNotSaidToRun(t *testing.T) {
	cluster, err := temporal.Dial(t.Context(), temporaltest.New(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cluster.Close() // whatever is asked of it from now on is refused
	var database *pgxpool.Pool
	d := newDoorway(t, redistest.Config(t), true, func(c *api.Config) {
		c.Temporal, database = func() client.Client { return cluster }, c.Pool
	})
	signedIn := d.person().send("POST", "/api/v1/auth/login", `{"username":"dev-admin","password":"admin123"}`, map[string]string{"Content-Type": "application/json"})
	refused := d.person().send("POST", reconciliations+"runs", `{}`, map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer " + signedIn.text("access_token"), "X-Idempotency-Key": "run",
	})
	if refused.status < 500 {
		t.Fatalf("a run that cannot be started is answered %d %s", refused.status, refused.body)
	}
	var runs, audited int
	if err := database.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM reconciliation_runs), (SELECT count(*) FROM audit_logs WHERE action = 'reconciliation.start' AND result = 'success')`).Scan(&runs, &audited); err != nil {
		t.Fatal(err)
	}
	if runs != 0 || audited != 0 {
		t.Errorf("%d runs are said to run, and %d are audited", runs, audited)
	}
}
