package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// nodeRemains is what a node itself says is still on it: the users and the files of tenants.
type nodeRemains struct {
	Users []string
	Files []string
}

// workflowView asks Temporal for the state of a workflow: "Running", "Completed", or what else it is.
type workflowView func(ctx context.Context, workflow string) (string, error)

type lease struct {
	node, allocation string
	generation       int64
	claimed          time.Time
	closed           *time.Time
	closedBy         *string
}

func (o *oracle) allLeases(ctx context.Context) ([]lease, error) {
	rows, err := o.db.Query(ctx, `SELECT node_id, allocation_id, generation, claimed_at, closed_at, closed_by
		FROM node_leases ORDER BY node_id, generation`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l lease, err error) {
		err = row.Scan(&l.node, &l.allocation, &l.generation, &l.claimed, &l.closed, &l.closedBy)
		return l, err
	})
}

// nodeCustody reads the leases of a node as intervals: the next one starts only after the one before was closed.
func (o *oracle) nodeCustody(ctx context.Context, v *verdict) error {
	leases, err := o.allLeases(ctx)
	if err != nil {
		return err
	}
	last := map[string]lease{}
	for _, l := range leases {
		v.look()
		if before, any := last[l.node]; any {
			switch {
			case before.closed == nil:
				v.fault("%s: generation %d was claimed while %d was open", l.node, l.generation, before.generation)
			case l.claimed.Before(*before.closed):
				v.fault("%s: generation %d was claimed at %s, before %d closed at %s", l.node, l.generation, l.claimed, before.generation, *before.closed)
			}
			v.expect(l.generation == before.generation+1, "%s: generation %d follows %d", l.node, l.generation, before.generation)
		}
		last[l.node] = l
	}
	return nil
}

func (o *oracle) leases(ctx context.Context, v *verdict) error {
	leases, err := o.allLeases(ctx)
	if err != nil {
		return err
	}
	open := map[string]lease{}
	for _, l := range leases {
		if l.closed == nil {
			open[l.node] = l
		}
	}
	rows, err := o.db.Query(ctx, `SELECT id, state, coalesce(node_id, ''), coalesce(generation, 0), coalesce((certificate->>'wiped')::boolean, false)
		FROM allocations ORDER BY id`)
	if err != nil {
		return err
	}
	var id, state, node string
	var generation int64
	var wiped bool
	_, err = pgx.ForEachRow(rows, []any{&id, &state, &node, &generation, &wiped}, func() error {
		v.look()
		held, isOpen := open[node]
		mine := isOpen && held.allocation == id && held.generation == generation
		switch state {
		case "released":
			v.expect(!wiped || !mine, "%s: released as wiped, and still holds %s", id, node)
			v.expect(wiped || node == "" || mine, "%s: released without a wipe, and %s was let go", id, node)
		case "failed":
		default:
			v.expect(mine, "%s: is %s and has no custody of %s at generation %d", id, state, node, generation)
		}
		return nil
	})
	return err
}

// cleanNodes compares what the nodes themselves hold with who has custody of them.
func (o *oracle) cleanNodes(ctx context.Context, v *verdict) error {
	leases, err := o.allLeases(ctx)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	seen := map[string]bool{}
	for _, l := range leases {
		seen[l.node] = true
		if l.closed == nil {
			held[l.node] = true
		}
	}
	for node := range seen {
		if held[node] {
			continue
		}
		remains, told := o.nodes[node]
		if !told {
			continue
		}
		v.look()
		v.expect(len(remains.Users) == 0, "%s: nobody has custody, yet these users are on it: %v", node, remains.Users)
		v.expect(len(remains.Files) == 0, "%s: nobody has custody, yet these files are on it: %v", node, remains.Files)
	}
	return nil
}

// arrows are written out here a second time on purpose.
var arrows = map[string]bool{
	"requested>provisioning": true, "requested>failed": true, "requested>releasing": true,
	"provisioning>active": true, "provisioning>failed": true, "provisioning>releasing": true,
	"active>releasing": true, "releasing>released": true, "releasing>release_failed": true, "release_failed>releasing": true,
}

func (o *oracle) transitions(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT t.allocation_id, t.version, coalesce(t.from_state, ''), t.to_state, a.version, a.state
		FROM allocation_transitions t JOIN allocations a ON a.id = t.allocation_id ORDER BY t.allocation_id, t.version`)
	if err != nil {
		return err
	}
	type point struct {
		version int64
		state   string
	}
	last, now := map[string]point{}, map[string]point{}
	var id, from, to, state string
	var version, current int64
	_, err = pgx.ForEachRow(rows, []any{&id, &version, &from, &to, &current, &state}, func() error {
		v.look()
		before, any := last[id]
		if !any {
			v.expect(version == 1 && to == "requested" && from == "", "%s: the first transition is %d, %q to %q", id, version, from, to)
		} else {
			v.expect(version == before.version+1, "%s: version %d follows %d", id, version, before.version)
			v.expect(from == before.state && arrows[from+">"+to], "%s: version %d goes from %q (was %q) to %q", id, version, from, before.state, to)
		}
		last[id], now[id] = point{version, to}, point{current, state}
		return nil
	})
	if err != nil {
		return err
	}
	for id, end := range last {
		v.expect(now[id] == end, "%s: the row says %v, the transitions %v", id, now[id], end)
	}
	return nil
}

func (o *oracle) audits(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT t.allocation_id, t.version, t.to_state,
			(SELECT count(*) FROM audit_logs l WHERE l.target_type = 'allocation' AND l.target_id = t.allocation_id AND l.result = 'success'
				AND CASE WHEN t.version = 1 THEN l.action = 'allocation.create' ELSE l.details->>'version' = t.version::text END)
		FROM allocation_transitions t`)
	if err != nil {
		return err
	}
	var id, state string
	var version, audits int64
	_, err = pgx.ForEachRow(rows, []any{&id, &version, &state, &audits}, func() error {
		v.look()
		v.expect(audits == 1, "%s: its change %d, to %s, has %d audit rows", id, version, state, audits)
		return nil
	})
	return err
}

// heardOf is the event of each state that others must hear of.
var heardOf = map[string]string{
	"requested": "provisioning.requested", "active": "provisioning.active", "failed": "provisioning.failed",
	"releasing": "provisioning.releasing.requested", "released": "provisioning.releasing.completed", "release_failed": "provisioning.release_failed",
}

func (o *oracle) transitionEvents(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT allocation_id, to_state, count(*) FROM allocation_transitions GROUP BY 1, 2`)
	if err != nil {
		return err
	}
	type told struct{ allocation, subject string }
	expected := map[told]int64{}
	var id, state string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &state, &n}, func() error {
		if subject, must := heardOf[state]; must {
			expected[told{id, subject}] += n
		}
		return nil
	}); err != nil {
		return err
	}
	rows, err = o.db.Query(ctx, `SELECT aggregate_id, subject, count(*), count(DISTINCT msg_id) FROM outbox
		WHERE subject LIKE 'provisioning.%' AND subject <> 'provisioning.force_release_requested' GROUP BY 1, 2`)
	if err != nil {
		return err
	}
	found := map[told]int64{}
	var distinct int64
	var subject string
	if _, err := pgx.ForEachRow(rows, []any{&id, &subject, &n, &distinct}, func() error {
		found[told{id, subject}] = n
		v.expect(n == distinct, "%s: %s stands twice in the outbox with one message id", id, subject)
		return nil
	}); err != nil {
		return err
	}
	for what, n := range expected {
		v.look()
		v.expect(found[what] == n, "%s: %d × %s expected, %d in the outbox", what.allocation, n, what.subject, found[what])
	}
	return nil
}

func (o *oracle) usageEvents(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `WITH told AS (
			SELECT (entry #>> '{}')::bigint AS id, count(*) AS times
			FROM outbox, jsonb_array_elements(payload #> '{payload,entry_ids}') AS entry
			WHERE subject = 'billing.usage_recorded' GROUP BY 1)
		SELECT e.id, coalesce(told.times, 0) FROM ledger_entries e LEFT JOIN told ON told.id = e.id WHERE e.kind = 'usage'`)
	if err != nil {
		return err
	}
	var id, times int64
	_, err = pgx.ForEachRow(rows, []any{&id, &times}, func() error {
		v.look()
		v.expect(times == 1, "entry %d is told of %d times", id, times)
		return nil
	})
	return err
}
