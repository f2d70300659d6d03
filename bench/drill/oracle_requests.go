package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// call is one line of the log of API calls: what was asked, when, and what was answered. A call whose answer
// never came has Status 0: it may or may not have been carried out.
type call struct {
	Operation     string    `json:"operation"`
	Key           string    `json:"key,omitempty"`
	Allocation    string    `json:"allocation,omitempty"`
	Account       string    `json:"account,omitempty"`
	BalanceMicros int64     `json:"balance_micros,omitempty"`
	Status        int       `json:"status"`
	Code          string    `json:"code,omitempty"`
	Began         time.Time `json:"began"`
	Ended         time.Time `json:"ended"`
	// What the money drill asks for and is answered: a payment with its amount, a refund, and an allocation as it stands once it has ended.
	Payment     string     `json:"payment,omitempty"`
	Refund      string     `json:"refund,omitempty"`
	AmountMinor int64      `json:"amount_minor,omitempty"`
	Rate        int64      `json:"rate_micros_per_hour,omitempty"`
	Cause       string     `json:"cause,omitempty"`
	MeteredFrom *time.Time `json:"metered_from,omitempty"`
	MeteredTo   *time.Time `json:"metered_to,omitempty"`
}

// callLog collects calls in memory and as JSON lines, so that a drill that fails leaves evidence.
type callLog struct {
	mutex sync.Mutex
	calls []call
	out   io.Writer
}

func (l *callLog) add(c call) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.calls = append(l.calls, c)
	line, err := json.Marshal(c)
	if err == nil && l.out != nil {
		fmt.Fprintln(l.out, string(line))
	}
}

func (l *callLog) all() []call {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return append([]call(nil), l.calls...)
}

// acceptedCreates holds the rows against the requests: what was accepted stands, what stands was asked for.
func (o *oracle) acceptedCreates(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, "SELECT id FROM allocations")
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	stands := map[string]bool{}
	for _, id := range ids {
		stands[id] = true
	}
	accepted := map[string]bool{}
	unanswered := map[string]bool{}
	for _, c := range o.calls {
		if c.Operation != "create" {
			continue
		}
		switch {
		case c.Status == 201:
			v.look()
			accepted[c.Allocation] = true
			v.expect(stands[c.Allocation], "%s was accepted and is not there", c.Allocation)
		case c.Status == 0 || c.Status >= 500:
			unanswered[c.Key] = true
		}
	}
	unexplained := 0
	for id := range stands {
		if !accepted[id] {
			unexplained++
		}
	}
	v.expect(unexplained <= len(unanswered), "%d allocations stand that nobody was promised, and only %d requests went unanswered", unexplained, len(unanswered))
	return nil
}

func (o *oracle) repeats(_ context.Context, v *verdict) error {
	first := map[string]call{}
	for _, c := range o.calls {
		if c.Operation != "create" || (c.Status != 201 && c.Status < 400) || c.Status >= 500 || c.Status == 0 {
			continue
		}
		if c.Code == "idempotency_in_flight" || c.Code == "rate_limit_exceeded" {
			continue
		}
		before, any := first[c.Key]
		if !any {
			first[c.Key] = c
			continue
		}
		v.look()
		v.expect(before.Status == c.Status && before.Allocation == c.Allocation && before.Code == c.Code,
			"key %s: answered %d %s %s, then %d %s %s", c.Key, before.Status, before.Allocation, before.Code, c.Status, c.Allocation, c.Code)
	}
	return nil
}

// releaseInstants holds metered_to against the drill's own clock: the instant lies between the first asking and the
// last answer of the accepted release.
func (o *oracle) releaseInstants(ctx context.Context, v *verdict) error {
	meters, err := o.meters(ctx)
	if err != nil {
		return err
	}
	earliest, latest := map[string]time.Time{}, map[string]time.Time{}
	for _, c := range o.calls {
		if c.Operation != "release" {
			continue
		}
		if at, any := earliest[c.Allocation]; !any || c.Began.Before(at) {
			earliest[c.Allocation] = c.Began
		}
		if c.Status == 202 && latest[c.Allocation].IsZero() {
			latest[c.Allocation] = c.Ended
		}
	}
	for _, m := range meters {
		answered, released := latest[m.id]
		if !released || m.to == nil {
			continue
		}
		v.look()
		v.expect(!m.to.Before(earliest[m.id].Truncate(time.Millisecond)) || m.to.Equal(m.from), "%s: the meter stopped at %s, before anybody asked at %s", m.id, *m.to, earliest[m.id])
		v.expect(!m.to.After(answered), "%s: the meter stopped at %s, after the release was accepted at %s", m.id, *m.to, answered)
	}
	return nil
}

func (o *oracle) workflowsAgree(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, "SELECT id, state FROM allocations ORDER BY id")
	if err != nil {
		return err
	}
	states := map[string]string{}
	var id, state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error { states[id] = state; return nil }); err != nil {
		return err
	}
	for id, state := range states {
		status, err := o.workflows(ctx, "allocation/"+id)
		if err != nil {
			return err
		}
		v.look()
		expected := "Running"
		if state == "released" || state == "failed" {
			expected = "Completed"
			if o.cutOff[id] {
				expected = "Terminated"
			}
		}
		v.expect(status == expected, "%s: the row is %s and the workflow %s", id, state, status)
	}
	return nil
}
