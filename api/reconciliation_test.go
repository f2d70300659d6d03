//go:build integration

package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

const reconciliations = "/api/v1/admin/reconciliation/"

// compared is a world whose books are compared; its nodes have no workflows, which is the one thing about it that does not fit.
// A test of one mostly waits until things are old enough to be compared, so these run side by side.
type compared struct {
	*world
	root  string
	nodes int
	runs  int
}

func newCompared(t *testing.T, nodes int) *compared {
	t.Helper()
	c := &compared{nodes: nodes, world: newWorldWhere(t, nodes, map[string]string{
		"billing.opening_credit_minor": "1000000", "billing.window_seconds": "1", "payments.reconcile_seconds": "3600", "reconciliation.interval_seconds": "86400",
		"reconciliation.lag_tolerance_seconds": "10", "reconciliation.second_approver_minor": "0",
	})}
	c.root = c.token("root", "admin")
	c.ask("GET", "/api/v1/me", c.root, "", "")
	return c
}

// reconcile makes a run and answers it once it has ended.
func (c *compared) reconcile(whole bool) reply {
	c.t.Helper()
	c.runs++
	begun := c.ask("POST", reconciliations+"runs", c.root, fmt.Sprint("run-", c.runs), fmt.Sprintf(`{"whole":%t}`, whole))
	if begun.status != 201 {
		c.t.Fatalf("a reconciliation is answered %d %s", begun.status, begun.body)
	}
	ended := c.stands(reconciliations+"runs/"+begun.text("id"), c.root, "completed")
	var run struct {
		Checks []workflows.CheckMade `json:"checks"`
	}
	if err := json.Unmarshal(ended.body, &run); err != nil || len(run.Checks) != len(reconciliation.Checks()) {
		c.t.Fatalf("the run is %s: %v", ended.body, err)
	}
	for _, check := range run.Checks {
		least := int64(1)
		if check.Check == reconciliation.Entries { // there is one a second at most, and runs follow upon each other faster
			least = c.entriesOf(begun.text("id"), whole)
		}
		if check.Examined < least {
			c.t.Errorf("%s examined %d, not at least %d: %s", check.Check, check.Examined, least, ended.body)
		}
	}
	return ended
}

// entriesOf counts the entries that a run has to look at: all that are final, or those that no run before has seen.
func (c *compared) entriesOf(run string, whole bool) int64 {
	c.t.Helper()
	counted, err := strconv.ParseInt(c.field(`SELECT count(*)::text FROM ledger_entries, reconciliation_runs AS this WHERE this.id = $1 AND ledger_entries.id <= this.entries_up_to
		AND ledger_entries.id > CASE WHEN $2 THEN 0 ELSE (SELECT coalesce(max(entries_up_to), 0) FROM reconciliation_runs AS earlier WHERE earlier.started_at < this.started_at) END`, run, whole), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	if whole && counted == 0 {
		c.t.Errorf("there is no entry to look at")
	}
	return counted
}

// open is what stands and is not about the missing workflows of nodes, as "kind subject".
func (c *compared) open() []string {
	c.t.Helper()
	rows, err := c.Owner.Query(context.Background(), `SELECT kind || ' ' || subject FROM reconciliation_findings WHERE state = 'open' AND kind <> 'node_without_workflow' ORDER BY 1`)
	if err != nil {
		c.t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.t.Fatal(err)
	}
	return found
}

// damage changes rows as the tables' owner, past every trigger and constraint that has a trigger.
func (w *world) damage(table, sql string, arguments ...any) {
	w.t.Helper()
	w.exec("ALTER TABLE " + table + " DISABLE TRIGGER ALL")
	w.exec(sql, arguments...)
	w.exec("ALTER TABLE " + table + " ENABLE TRIGGER ALL")
}

// While allocations start, are billed, and end, and money comes and goes, nothing is found.
func (c *compared) busy(people []string) {
	c.t.Helper()
	var working sync.WaitGroup
	for i, person := range people {
		working.Go(func() {
			for round := range 3 {
				path := c.activeAllocation(person)
				c.ask("POST", path+"/release", person, fmt.Sprintf("release-%d-%d", i, round), `{}`)
				c.reach(path, person, "released")
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		working.Wait()
		close(ended)
	}()
	for whole, done := false, false; !done; whole = !whole {
		select {
		case <-ended:
			done = true
		default:
		}
		c.reconcile(whole)
		if found := c.open(); len(found) > 0 {
			c.t.Fatalf("nothing is wrong, and yet it finds %q", found)
		}
	}
}

func TestReconciliationFindsEveryDamageOnceAndNothingElse(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 12)
	alice, bob := c.token("alice"), c.token("bob")
	for _, person := range []string{alice, bob} {
		c.ask("GET", "/api/v1/me", person, "", "")
	}
	for key, amount := range map[string]string{"goodwill": "500", "taken": "-200"} { // what is audited is nothing to find
		if adjusted := c.ask("POST", "/api/v1/admin/accounts/"+c.field(`SELECT accounts.id FROM accounts JOIN users ON users.tenant_id = accounts.tenant_id WHERE username = 'alice'`)+"/adjustments",
			c.root, key, `{"amount_minor":`+amount+`,"currency":"usd","reason":"`+key+`"}`); adjusted.status/100 != 2 {
			t.Fatalf("an adjustment is answered %d %s", adjusted.status, adjusted.body)
		}
	}
	payment := c.paid(alice, "deposit", 2500)
	refund := c.ask("POST", "/api/v1/payments/"+payment+"/refunds", alice, "refund", `{"amount_minor":100,"reason":"too much"}`)
	c.stands("/api/v1/refunds/"+refund.text("id"), alice, "succeeded")
	lasting := []string{c.activeAllocation(alice), c.activeAllocation(bob), c.activeAllocation(alice)}
	c.busy([]string{alice, bob})

	planted := c.plant(alice, bob, lasting)
	c.findAll(planted)
	before := c.field(`SELECT count(*)::text FROM reconciliation_findings`)
	if again := c.reconcile(false); again.fields()["opened"] != 0.0 || c.field(`SELECT count(*)::text FROM reconciliation_findings`) != before {
		t.Errorf("what stands is found again: %s", again.body)
	}
	if events := c.field(`SELECT count(*)::text FROM outbox WHERE subject = $1`, string(event.BillingReconciliationFinding)); events != before {
		t.Errorf("%s findings have %s events", before, events)
	}
	if nodes := c.field(`SELECT count(*)::text FROM reconciliation_findings WHERE kind = 'node_without_workflow'`); nodes != fmt.Sprint(c.nodes) {
		t.Errorf("%s of %d nodes are said to have no workflow", nodes, c.nodes)
	}
	c.correctAll(alice)
}

// plant damages the books in every way there is, and answers what is to be found.
func (c *compared) plant(alice, bob string, lasting []string) []string {
	c.t.Helper()
	ids := make([]string, len(lasting))
	for i, path := range lasting {
		ids[i] = idOf(path)
	}
	// Two that ended: a window is lost of one, and one is dearer in the other.
	for i, person := range []string{alice, bob} {
		c.ask("POST", lasting[i]+"/release", person, fmt.Sprint("end-", i), `{}`)
		c.reach(lasting[i], person, "released")
	}
	c.damage("ledger_entries", `DELETE FROM ledger_entries WHERE id = (SELECT id FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1 ORDER BY id OFFSET 2 LIMIT 1)`, ids[0])
	c.damage("ledger_entries", `UPDATE ledger_entries SET amount_micros = amount_micros + 777 WHERE id = (SELECT id FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1 ORDER BY id OFFSET 2 LIMIT 1)`, ids[1])
	// What was summed before that is no longer so; checkpoints are disposable.
	c.exec(`DELETE FROM ledger_checkpoints`)

	account := c.field(`SELECT accounts.id FROM accounts JOIN users ON users.tenant_id = accounts.tenant_id WHERE username = 'alice'`)
	stray := string(randomID[id.Allocation]())
	c.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end, idempotency_key)
		VALUES ('usage_credit', gen_random_uuid(), 'acct_platformrevenueusdaaaaaaaa', $1, 'usd', 5000, $2, '2026-01-01', '2026-01-02', 'planted')`, account, stray)
	c.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		VALUES ('deposit', gen_random_uuid(), 'acct_platformstripeclearingusda', $1, 'usd', 10000, 'stripe:pi:pi_forged'),
			('adjustment_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 20000, 'adjustment/adj_forged'),
			('opening_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 30000, 'by hand')`, account)

	// One that runs loses its workflow, and its node's generation is another.
	cluster := c.atTemporal()
	if err := cluster.TerminateWorkflow(context.Background(), workflows.AllocationWorkflowID(id.Allocation(ids[2])), "", "planted"); err != nil {
		c.t.Fatal(err)
	}
	c.exec(`UPDATE nodes SET generation = generation + 1 WHERE claimed_by = $1`, ids[2])
	orphan := workflows.AllocationWorkflowID(randomID[id.Allocation]())
	if _, err := cluster.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: orphan, TaskQueue: workflows.AllocationsQueue}, workflows.AllocationType,
		workflows.AllocationInput{AllocationID: id.Allocation(strings.TrimPrefix(orphan, "allocation/")), AdmitBefore: time.Now().Add(time.Hour)}); err != nil {
		c.t.Fatal(err)
	}
	spare := strings.Split(c.field(`SELECT string_agg(id, ' ') FROM (SELECT id FROM nodes WHERE claimed_by IS NULL ORDER BY id LIMIT 3) AS spare`), " ")
	c.exec(`UPDATE nodes SET claimed_by = $2, scheduling = 'cordoned' WHERE id = $1`, spare[0], stray)
	c.exec(`UPDATE nodes SET scheduling = 'cordoned' WHERE id = ANY ($1)`, spare[1:])
	c.exec(`INSERT INTO node_leases (node_id, generation, allocation_id, ordinal) VALUES ($1, 99, $2, 98)`, spare[1], stray)
	c.exec(`INSERT INTO node_leases (node_id, generation, allocation_id, ordinal) SELECT id, generation + 1, $2, 99 FROM nodes WHERE id = $1`, spare[2], stray)
	c.exec(`UPDATE nodes SET claimed_by = $2, generation = generation + 1 WHERE id = $1`, spare[2], stray)

	// A payment of which no webhook told, and one that is credited and that Stripe never took.
	c.hooks.mutex.Lock()
	c.hooks.closed = true
	c.hooks.mutex.Unlock()
	lost := c.deposit(alice, "lost", 3000)
	intent, _ := c.stripe.Pay(lost.text("checkout_url"), "pay")["payment_intent"].(string)
	c.exec(`WITH entry AS (INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			VALUES ('deposit', gen_random_uuid(), 'acct_platformstripeclearingusda', $1, 'usd', 70000, 'stripe:pi:pi_unfounded') RETURNING id)
		INSERT INTO payments (id, tenant_id, account_id, user_id, method, currency, amount_micros, state, payment_intent_id, entry_id, correlation_id, credited_at)
		SELECT $2, tenant_id, account_id, user_id, method, currency, 70000, 'credited', 'pi_unfounded', entry.id, 'planted', now() - interval '1 hour'
		FROM entry, payments WHERE payments.id = $3`, account, string(randomID[id.Payment]()), lost.text("id"))

	// A checkpoint that lies.
	other := c.field(`SELECT accounts.id FROM accounts JOIN users ON users.tenant_id = accounts.tenant_id WHERE username = 'bob'`)
	temporaltest.Eventually(c.t, time.Minute, func() error {
		if c.field(`SELECT (max(sealed_id) >= (SELECT max(id) FROM ledger_entries))::text FROM seals WHERE relation = 'ledger_entries'`) != "true" {
			return errors.New("not sealed yet")
		}
		return nil
	})
	c.exec(`INSERT INTO ledger_checkpoints (account_id, up_to_id, balance_micros) SELECT $1, max(ledger_entries.id), 5 + (SELECT sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END)
		FROM ledger_entries WHERE $1 IN (credit_account_id, debit_account_id)) FROM ledger_entries`, other)

	return []string{
		"unbilled " + ids[0], "overbilled " + ids[1],
		"entry_orphaned " + c.field(`SELECT 'ledger_entry/' || id FROM ledger_entries WHERE idempotency_key = 'planted'`),
		"entry_orphaned " + c.field(`SELECT 'ledger_entry/' || id FROM ledger_entries WHERE idempotency_key = 'stripe:pi:pi_forged'`),
		"entry_orphaned " + c.field(`SELECT 'ledger_entry/' || id FROM ledger_entries WHERE idempotency_key = 'adjustment/adj_forged'`),
		"entry_orphaned " + c.field(`SELECT 'ledger_entry/' || id FROM ledger_entries WHERE idempotency_key = 'by hand'`),
		"allocation_without_workflow " + ids[2], "unbilled " + ids[2], "workflow_without_allocation " + orphan,
		"claim_differs_from_lease " + c.field(`SELECT id FROM nodes WHERE claimed_by = $1`, ids[2]),
		"claim_without_lease " + spare[0], "lease_without_claim " + spare[1], "claim_without_allocation " + spare[2],
		"payment_unmatched " + intent, "payment_unfounded pi_unfounded", "balance_differs " + other, "books_unbalanced usd",
	}
}

// atTemporal is the cluster that the workers work in.
func (w *world) atTemporal() client.Client {
	w.t.Helper()
	cluster, err := temporal.Dial(context.Background(), w.cluster, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cluster.Close)
	return cluster
}

// findAll runs until everything that was planted is found, each once, and nothing else.
func (c *compared) findAll(planted []string) {
	c.t.Helper()
	slices.Sort(planted)
	temporaltest.Eventually(c.t, 2*time.Minute, func() error {
		c.reconcile(false)
		found := c.open()
		for _, one := range found {
			if !slices.Contains(planted, one) {
				c.t.Fatalf("%s was not planted", one)
			}
		}
		if !slices.Equal(found, planted) {
			return fmt.Errorf("found are\n%s\nand planted were\n%s", strings.Join(found, "\n"), strings.Join(planted, "\n"))
		}
		return nil
	})
}

// finding is the id of the open finding of a kind.
func (c *compared) finding(kind string) string {
	c.t.Helper()
	return c.field(`SELECT id FROM reconciliation_findings WHERE kind = $1 AND state = 'open' ORDER BY first_seen_at LIMIT 1`, kind)
}

const mending = `{"reason":"mended"}`

// correctAll corrects what can be corrected, by two people, and sees the findings go.
func (c *compared) correctAll(alice string) {
	c.t.Helper()
	ruth, rita := c.token("ruth", "admin"), c.token("rita", "admin")
	for _, person := range []string{ruth, rita} {
		c.ask("GET", "/api/v1/me", person, "", "")
	}
	c.want(c.ask("POST", reconciliations+"findings/"+c.finding("balance_differs")+"/corrections", c.root, "k0", mending), 409, "finding_not_correctable")
	corrected := []string{"overbilled", "payment_unmatched", "payment_unfounded"}
	balance, owed := c.balance(alice), int64(0)
	for i, kind := range corrected {
		finding := c.finding(kind)
		proposed := c.ask("POST", reconciliations+"findings/"+finding+"/corrections", c.root, fmt.Sprint("propose-", i), mending)
		if proposed.status != 201 || proposed.text("state") != "proposed" {
			c.t.Fatalf("a proposal for %s is answered %d %s", kind, proposed.status, proposed.body)
		}
		c.want(c.ask("POST", reconciliations+"findings/"+finding+"/corrections", ruth, fmt.Sprint("another-", i), mending), 409, "correction_proposed")
		approve := reconciliations + "corrections/" + proposed.text("id") + "/approve"
		entries := c.field(`SELECT count(*)::text FROM ledger_entries WHERE kind IN ('adjustment_credit', 'adjustment_debit', 'deposit')`)
		c.want(c.ask("POST", approve, c.root, fmt.Sprint("self-", i), mending), 409, "second_approver_required")
		if now := c.field(`SELECT count(*)::text FROM ledger_entries WHERE kind IN ('adjustment_credit', 'adjustment_debit', 'deposit')`); now != entries {
			c.t.Errorf("a refused approval posted something")
		}
		c.raceToApprove(approve, ruth, rita)
		if c.field(`SELECT count(*)::text FROM reconciliation_corrections WHERE finding_id = $1 AND entry_id IS NOT NULL AND proposed_by <> approved_by`, finding) != "1" {
			c.t.Errorf("%s is not corrected by one entry of two people", kind)
		}
		if kind != "overbilled" { // which is bob's
			amount, _ := proposed.fields()["amount_micros"].(float64)
			owed += int64(amount)
		}
	}
	if got := c.balance(alice); got != balance+owed {
		c.t.Errorf("alice has %d micros, not %d", got, balance+owed)
	}
	// The webhook comes after all: the payment finds its entry.
	c.hooks.mutex.Lock()
	c.hooks.closed = false
	c.hooks.mutex.Unlock()
	told := c.hooks.of("checkout.session.completed")
	c.webhook(told[len(told)-1].signature, told[len(told)-1].body)
	temporaltest.Eventually(c.t, time.Minute, func() error {
		if c.field(`SELECT count(*)::text FROM payments WHERE state = 'open'`) != "0" {
			return errors.New("the payment is not credited")
		}
		return nil
	})
	if got := c.balance(alice); got != balance+owed {
		c.t.Errorf("a late webhook makes it %d micros", got)
	}
	c.dismissed()
	for _, kind := range corrected {
		if state := c.field(`SELECT string_agg(DISTINCT state, ',') FROM reconciliation_findings WHERE kind = $1`, kind); state != "resolved" {
			c.t.Errorf("%s is %s after its correction", kind, state)
		}
	}
	if audited := c.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'correction.post' AND result = 'success'`); audited != fmt.Sprint(len(corrected)) {
		c.t.Errorf("%s postings are audited", audited)
	}
}

// raceToApprove has two people approve at once: one entry stands.
func (c *compared) raceToApprove(approve string, people ...string) {
	c.t.Helper()
	answers := make([]reply, len(people))
	var racing sync.WaitGroup
	for i, person := range people {
		racing.Go(func() { answers[i] = c.ask("POST", approve, person, fmt.Sprint("approve-", i, approve), mending) })
	}
	racing.Wait()
	outcomes := map[int]int{}
	for _, answer := range answers {
		outcomes[answer.status]++
	}
	if !maps.Equal(outcomes, map[int]int{200: 1, 409: 1}) {
		c.t.Fatalf("two approvals are answered %d %s and %d %s", answers[0].status, answers[0].body, answers[1].status, answers[1].body)
	}
}

// dismissed is heard of no more, as long as it stays as it is.
func (c *compared) dismissed() {
	c.t.Helper()
	finding := c.finding("lease_without_claim")
	path := reconciliations + "findings/" + finding
	if got := c.ask("POST", path+"/dismiss", c.root, "dismiss", mending); got.status != 200 || got.text("state") != "dismissed" {
		c.t.Errorf("dismissing answers %d %s", got.status, got.body)
	}
	c.want(c.ask("POST", path+"/dismiss", c.root, "dismiss-2", mending), 409, "finding_not_open")
	c.reconcile(true)
	if got := c.ask("GET", path, c.root, "", ""); got.text("state") != "dismissed" {
		c.t.Errorf("what was dismissed is %s", got.body)
	}
	if got := c.ask("GET", reconciliations+"findings?state=dismissed", c.root, "", ""); !strings.Contains(string(got.body), finding) {
		c.t.Errorf("it is not listed: %s", got.body)
	}
}
