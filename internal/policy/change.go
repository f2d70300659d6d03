package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Order is who changes policy, and why.
type Order struct {
	Reason        string
	Actor         identity.Actor
	CorrelationID string
	// RequestID makes the change once: a repeat answers what the first one set.
	RequestID string
}

// Change is a value to be set. Value is JSON of the key's type. ExpectedVersion, when not nil, is the version the
// writer saw: another one in force refuses the change.
type Change struct {
	Name            string
	Value           json.RawMessage
	ExpectedVersion *int64
}

// Set writes a new version of each key, with an audit row each, all or nothing: values that bound each other can be moved
// together. It refuses with PolicyNotFound, PolicyValueInvalid, PolicyVersionConflict, or PolicyCombinationRefused when
// the values would not go together; ValidationError when a key is named twice.
func (c *Client) Set(ctx context.Context, order Order, changes ...Change) ([]Setting, error) {
	steps := make([]step, 0, len(changes))
	named := map[string]bool{}
	for _, change := range changes {
		key, err := policy.Find(change.Name)
		if err != nil {
			return nil, err
		}
		if named[change.Name] {
			return nil, fault.Newf(fault.ValidationError, "%s is named twice.", change.Name).With(map[string]any{"key": change.Name})
		}
		named[change.Name] = true
		text, err := key.FromJSON(change.Value)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{key: key, text: text, expected: change.ExpectedVersion, action: "policy.set"})
	}
	return c.change(ctx, order, steps)
}

// Rollback sets a key to what it was at an earlier version; version 0 is the authored default. It is a change like any
// other: a new version, judged by today's rules. It refuses as Set does, and with PolicyVersionNotFound.
func (c *Client) Rollback(ctx context.Context, order Order, name string, version int64, expected *int64) (Setting, error) {
	key, err := policy.Find(name)
	if err != nil {
		return Setting{}, err
	}
	text := key.Info().Default
	if version != 0 {
		row, err := queries.GetPolicyVersion(ctx, c.pool, name, version)
		if errors.Is(err, pgx.ErrNoRows) {
			return Setting{}, fault.Newf(fault.PolicyVersionNotFound, "%s never had a version %d.", name, version).With(map[string]any{"key": name, "version": version})
		}
		if err != nil {
			return Setting{}, err
		}
		if text, err = key.FromJSON(row.Value); err != nil {
			return Setting{}, err
		}
	}
	set, err := c.change(ctx, order, []step{{key: key, text: text, expected: expected, action: "policy.rollback", restored: &version}})
	if err != nil {
		return Setting{}, err
	}
	return set[0], nil
}

// step is a change whose value is known to fit its key.
type step struct {
	key      policy.Key
	text     string
	expected *int64
	action   string
	restored *int64
}

func (s step) name() string { return s.key.Info().Name }

// change writes the steps in one transaction that no other change of policy overlaps.
func (c *Client) change(ctx context.Context, order Order, steps []step) ([]Setting, error) {
	var set []Setting
	err := store.InTx(ctx, c.pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := queries.LockPolicy(ctx, tx); err != nil {
			return err
		}
		var err error
		if set, err = made(ctx, tx, order, steps); err != nil || set != nil {
			return err
		}
		values, err := Read(ctx, tx)
		if err != nil {
			return err
		}
		if err := values.admit(steps); err != nil {
			return err
		}
		for i, one := range steps {
			setting, err := one.write(ctx, tx, values, order, order.requestID(i))
			if err != nil {
				return err
			}
			set = append(set, setting)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.forget()
	return set, nil
}

// requestID is the request's for the first key of a change; every audit row needs one of its own.
func (o Order) requestID(i int) string {
	if o.RequestID == "" || i == 0 {
		return o.RequestID
	}
	return o.RequestID + "." + strconv.Itoa(i)
}

// admit refuses steps that were meant for other versions, or that would leave values which do not go together.
func (v Values) admit(steps []step) error {
	together, changed := v.texts(), make([]string, 0, len(steps))
	for _, one := range steps {
		if current := v.newest[one.name()].Version; one.expected != nil && *one.expected != current {
			return fault.Newf(fault.PolicyVersionConflict, "%s is at version %d, not %d.", one.name(), current, *one.expected).
				With(map[string]any{"key": one.name(), "version": current})
		}
		together[one.name()] = one.text
		changed = append(changed, one.name())
	}
	return policy.CheckChange(together, changed...)
}

// write adds the version and its audit row.
func (s step) write(ctx context.Context, tx pgx.Tx, values Values, order Order, requestID string) (Setting, error) {
	value, err := s.key.ToJSON(s.text)
	if err != nil {
		return Setting{}, err
	}
	next := queries.PolicyValue{Key: s.name(), Version: values.newest[s.name()].Version + 1, Value: value, Reason: order.Reason, ActorUserID: order.Actor.ID}
	if err := queries.InsertPolicyValue(ctx, tx, next); err != nil {
		return Setting{}, err
	}
	details := map[string]any{"from": values.text(s.key), "to": s.text, "version": strconv.FormatInt(next.Version, 10), "reason": order.Reason}
	if s.restored != nil {
		details["restored_version"] = strconv.FormatInt(*s.restored, 10)
	}
	if err := queries.InsertAudit(ctx, tx, queries.Audit{
		Actor: order.Actor, Action: s.action, TargetType: "policy", TargetID: s.name(), CorrelationID: order.CorrelationID, RequestID: requestID, Details: details,
	}); err != nil {
		return Setting{}, err
	}
	return Setting{Info: s.key.Info(), Value: value, Version: next.Version, Reason: order.Reason, ActorUserID: order.Actor.ID, SetAt: time.Now().UTC()}, nil
}

// made is what an earlier delivery of the request set, as its audit rows tell it; nil if there was none.
func made(ctx context.Context, tx pgx.Tx, order Order, steps []step) ([]Setting, error) {
	var set []Setting
	for i, one := range steps {
		record, err := queries.AuditOfRequest(ctx, tx, order.requestID(i))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var details struct {
			To      string `json:"to"`
			Version int64  `json:"version,string"`
		}
		if err := json.Unmarshal(record.Details, &details); err != nil {
			return nil, fmt.Errorf("the audit row of a change of %s: %w", one.name(), err)
		}
		value, err := one.key.ToJSON(details.To)
		if err != nil {
			return nil, fmt.Errorf("the audit row of a change of %s: %w", one.name(), err)
		}
		set = append(set, Setting{
			Info: one.key.Info(), Value: value, Version: details.Version, Reason: order.Reason, ActorUserID: order.Actor.ID, SetAt: record.CreatedAt.UTC(),
		})
	}
	return set, nil
}

// Version is one version of a key, as its history shows it.
type Version struct {
	queries.PolicyValue
	// Fits says whether the key still accepts the value, so that one can roll back to it.
	Fits bool
}

// History reads a key's versions below one, newest first; fault.PolicyNotFound for a name that is no key.
func (c *Client) History(ctx context.Context, name string, before int64, limit int) ([]Version, error) {
	key, err := policy.Find(name)
	if err != nil {
		return nil, err
	}
	rows, err := queries.PolicyHistory(ctx, c.pool, name, before, limit)
	if err != nil {
		return nil, err
	}
	return fitting(key, rows), nil
}

func fitting(key policy.Key, rows []queries.PolicyValue) []Version {
	versions := make([]Version, 0, len(rows))
	for _, row := range rows {
		fits := row.Value == nil // what was ended is no value
		if !fits {
			_, err := key.FromJSON(row.Value)
			fits = err == nil
		}
		versions = append(versions, Version{PolicyValue: row, Fits: fits})
	}
	return versions
}
