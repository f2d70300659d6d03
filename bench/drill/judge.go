package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
)

// tellNode tells a simulated node to vanish or to return, through the simulator's control address.
func (s *storm) tellNode(ctx context.Context, node, word string) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.extra.SimControlURL+"/nodes/"+node+"/"+word, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode < 300 {
				return nil
			}
			err = fmt.Errorf("the simulator answered %s", response.Status)
		}
		if pauseErr := pause(ctx, 300*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("tell %s to %s: %w", node, word, err)
		}
	}
}

// remains reads what every simulated node has kept of tenants, from the nodes' own state on disk.
func (s *storm) remains() (map[string]nodeRemains, error) {
	files, err := filepath.Glob(filepath.Join(s.extra.SimStateDir, "*", "state.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no simulated node keeps a state under %s", s.extra.SimStateDir)
	}
	found := map[string]nodeRemains{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var state map[string]json.RawMessage
		if err := json.Unmarshal(text, &state); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found[filepath.Base(filepath.Dir(file))] = nodeRemains{Users: names(state["users"]), Files: names(state["files"])}
	}
	return found, nil
}

// names reads a JSON list, or the keys of a JSON object, as words.
func names(raw json.RawMessage) []string {
	var list []json.RawMessage
	var object map[string]json.RawMessage
	var words []string
	switch {
	case json.Unmarshal(raw, &list) == nil:
		for _, item := range list {
			words = append(words, string(item))
		}
	case json.Unmarshal(raw, &object) == nil:
		for key := range object {
			words = append(words, key)
		}
	}
	sort.Strings(words)
	return words
}

// database connects to the product's database as its owner, or with all rights for a plant.
func (s *storm) database(ctx context.Context, allRights bool) (*pgx.Conn, error) {
	target := s.extra.DatabaseOwnerURL
	if allRights {
		admin, err := url.Parse(s.extra.DatabaseAdminURL)
		if err != nil {
			return nil, err
		}
		owner, err := url.Parse(s.extra.DatabaseOwnerURL)
		if err != nil {
			return nil, err
		}
		admin.Path = owner.Path
		target = admin.String()
	}
	var conn *pgx.Conn
	var err error
	for {
		if conn, err = pgx.Connect(ctx, target); err == nil {
			return conn, nil
		}
		if pauseErr := pause(ctx, 300*time.Millisecond); pauseErr != nil {
			return nil, fmt.Errorf("reach the database: %w", err)
		}
	}
}

// plantFault breaks the ledger behind its guards, which only somebody with all rights can.
func (s *storm) plantFault(ctx context.Context) error {
	switch s.config.plant {
	case plantDoubleWindow:
		return s.tamper(ctx, "DROP INDEX ledger_usage_once", "ALTER TABLE ledger_entries DROP CONSTRAINT ledger_usage_end CASCADE",
			"ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
			`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end, prev_end, idempotency_key)
			 SELECT kind, gen_random_uuid(), debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end, prev_end, 'planted'
			 FROM ledger_entries WHERE kind = 'usage' AND prev_end IS NOT NULL ORDER BY id LIMIT 1`)
	case plantLostWindow:
		return s.tamper(ctx, "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
			`DELETE FROM ledger_entries WHERE id = (SELECT e.id FROM ledger_entries e JOIN allocations a ON a.id = e.allocation_id
			 WHERE e.kind = 'usage' AND a.state = 'released' AND e.amount_micros > 0 ORDER BY e.id DESC LIMIT 1)`)
	default:
		return nil
	}
}

// tamper carries out statements with all rights; what inserts, updates or deletes must find exactly one row.
func (s *storm) tamper(ctx context.Context, statements ...string) error {
	conn, err := s.database(ctx, true)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		tag, err := conn.Exec(ctx, statement)
		if err != nil {
			return fmt.Errorf("plant %s: %w", s.config.plant, err)
		}
		if (tag.Insert() || tag.Update() || tag.Delete()) && tag.RowsAffected() != 1 {
			return fmt.Errorf("plant %s: there was nothing to plant the fault on", s.config.plant)
		}
	}
	return nil
}

// judge freezes the ledger, reads the balance through the API, and lets the oracle look at everything.
func (s *storm) judge(ctx context.Context) (int, error) {
	workflows, hangUp, err := s.workflows()
	if err != nil {
		return 0, err
	}
	defer hangUp()
	if err := s.settleDown(ctx, workflows); err != nil {
		return 0, err
	}
	if err := s.stopSeparate("billing-worker"); err != nil {
		return 0, err
	}
	if err := s.readBalance(ctx, ""); err != nil {
		return 0, err
	}
	if err := s.countKills(); err != nil {
		return 0, err
	}
	conn, err := s.database(ctx, false)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	judge, err := s.oracle(conn, workflows)
	if err != nil {
		return 0, err
	}
	if err := judge.judge(ctx, judge.everywhere()); err != nil {
		return 0, err
	}
	return judge.broken, nil
}

// workflows asks Temporal itself, until it is hung up.
func (s *storm) workflows() (view workflowView, hangUp func(), err error) {
	temporal, err := s.temporal()
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, workflow string) (string, error) {
		described, err := temporal.DescribeWorkflowExecution(ctx, workflow, "")
		if err != nil {
			return "", err
		}
		return described.GetWorkflowExecutionInfo().GetStatus().String(), nil
	}, temporal.Close, nil
}

// oracle has the calls, the nodes' own word and Temporal's before it, and a connection of its own.
func (s *storm) oracle(conn *pgx.Conn, workflows workflowView) (*oracle, error) {
	remains, err := s.remains()
	if err != nil {
		return nil, err
	}
	return &oracle{db: conn, calls: s.log.all(), nodes: remains, out: os.Stdout, workflows: workflows, cutOff: s.cutOff}, nil
}

// stopSeparate stops one of the programs for good.
func (s *storm) stopSeparate(name string) error {
	for _, p := range s.separate {
		if p.name == name {
			return p.stop(30 * time.Second)
		}
	}
	return fmt.Errorf("there is no program %s", name)
}

// countKills says how often what was killed, and refuses a storm of fewer kills than were asked for.
func (s *storm) countKills() error {
	kills := 0
	for _, name := range slices.Sorted(maps.Keys(s.killed)) {
		fmt.Printf("drill: %s was killed %d times\n", name, s.killed[name])
		kills += s.killed[name]
	}
	if kills < s.config.kills {
		return fmt.Errorf("only %d kills happened", kills)
	}
	return nil
}

// settleDown gives workflows whose row has ended the time to write their last word. What still runs after it is for
// the oracle to judge.
func (s *storm) settleDown(ctx context.Context, status workflowView) error {
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := s.database(patience, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(patience, "SELECT id FROM allocations WHERE state IN ('released', 'failed')")
	if err != nil {
		return err
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range ended {
		for {
			now, err := status(patience, "allocation/"+id)
			if err != nil {
				return err
			}
			if now != "Running" || pause(patience, 100*time.Millisecond) != nil {
				break
			}
		}
	}
	return nil
}

// readBalance logs the balance of a tenant's account, of one's own without a tenant.
func (s *storm) readBalance(ctx context.Context, tenant string) error {
	path := "/api/v1/billing/balance"
	if tenant != "" {
		path += "?tenant_id=" + tenant
	}
	var balance struct {
		AccountID     string `json:"account_id"`
		BalanceMicros int64  `json:"balance_micros"`
	}
	began := time.Now()
	if err := s.tenant.Get(ctx, path, &balance); err != nil {
		return err
	}
	s.log.add(call{Operation: "balance", Account: balance.AccountID, BalanceMicros: balance.BalanceMicros, Status: http.StatusOK, Began: began, Ended: time.Now()})
	return nil
}
