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
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// mostTenants bounds how many tenants' values are kept at once.
const mostTenants = 10_000

// ForTenant reads every key as it holds for a tenant, at most four seconds old: the platform's values two, the tenant's two.
func (c *Client) ForTenant(ctx context.Context, tenant id.Tenant) (Values, error) {
	now := time.Now()
	c.mutex.Lock()
	kept, known := c.tenants[tenant]
	c.mutex.Unlock()
	if known && now.Before(kept.until) {
		return kept.values, nil
	}
	values, err := c.Values(ctx)
	if err == nil {
		values, err = values.forTenant(ctx, c.pool, tenant)
	}
	if err != nil {
		return Values{}, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.tenants) >= mostTenants {
		clear(c.tenants)
	}
	c.tenants[tenant] = tenantValues{values: values, until: now.Add(freshFor)}
	return values, nil
}

type tenantValues struct {
	values Values
	until  time.Time
}

// ReadForTenant is Read with what was set for one tenant in force.
func ReadForTenant(ctx context.Context, db queries.DB, tenant id.Tenant) (Values, error) {
	values, err := Read(ctx, db)
	if err != nil {
		return Values{}, err
	}
	return values.forTenant(ctx, db, tenant)
}

// ReadForTenantAt is ReadForTenant as it would have answered at an instant.
func ReadForTenantAt(ctx context.Context, db queries.DB, tenant id.Tenant, at time.Time) (Values, error) {
	values, err := valuesOf(queries.PolicyValuesAt(ctx, db, at))
	if err != nil {
		return Values{}, err
	}
	rows, err := queries.TenantPolicyValuesAt(ctx, db, tenant, at)
	return values.overriddenBy(rows, err)
}

func (v Values) forTenant(ctx context.Context, db queries.DB, tenant id.Tenant) (Values, error) {
	rows, err := queries.NewestTenantPolicyValues(ctx, db, tenant)
	return v.overriddenBy(rows, err)
}

func (v Values) overriddenBy(rows []queries.PolicyValue, err error) (Values, error) {
	if err != nil {
		return Values{}, fmt.Errorf("read the policy of a tenant: %w", err)
	}
	v.overrides, v.dropped = make(map[string]queries.PolicyValue, len(rows)), map[string]bool{}
	for _, row := range rows {
		v.overrides[row.Key] = row
	}
	v.dropUnfit()
	return v, nil
}

// dropUnfit ends, for this reading, the overrides that do not go together with each other or with the platform's values,
// which may have moved since: the platform's own always do.
func (v Values) dropUnfit() {
	for name := range v.overrides {
		if key, err := policy.Find(name); err != nil || !key.Info().Tenant {
			delete(v.overrides, name)
		}
	}
	for settled := false; !settled; {
		settled = true
		together := v.texts()
		for name := range v.overrides {
			if !v.dropped[name] && policy.CheckChange(together, name) != nil {
				v.dropped[name], settled = true, false
			}
		}
	}
}

// override is the canonical text that a tenant has instead of the platform's; false when there is none in force.
func (v Values) override(key policy.Key) (string, bool) {
	name := key.Info().Name
	row, set := v.overrides[name]
	if !set || row.Value == nil || v.dropped[name] {
		return "", false
	}
	text, err := key.FromJSON(row.Value)
	return text, err == nil
}

// Override is a key that may be set for a tenant, with what is in force for it.
type Override struct {
	Setting
	// Platform is the value that holds for everybody else.
	Platform json.RawMessage
	// Overridden says that a value of the tenant's own is in force.
	Overridden bool
}

// Overrides reads every key that may be set for a tenant, in the catalogue's order. Setting tells of the tenant's own
// version, of which Version is 0 if there never was one.
func (c *Client) Overrides(ctx context.Context, tenant id.Tenant) ([]Override, error) {
	values, err := ReadForTenant(ctx, c.pool, tenant)
	if err != nil {
		return nil, err
	}
	var overrides []Override
	for _, key := range policy.All() {
		if !key.Info().Tenant {
			continue
		}
		one, err := values.overrideOf(key)
		if err != nil {
			return nil, err
		}
		overrides = append(overrides, one)
	}
	return overrides, nil
}

func (v Values) overrideOf(key policy.Key) (Override, error) {
	info := key.Info()
	value, err := key.ToJSON(v.text(key))
	if err != nil {
		return Override{}, err
	}
	platform, err := key.ToJSON(v.platformText(key))
	if err != nil {
		return Override{}, err
	}
	row := v.overrides[info.Name]
	_, overridden := v.override(key)
	one := Override{Platform: platform, Overridden: overridden, Setting: Setting{
		Info: info, Value: value, Version: row.Version, Reason: row.Reason, ActorUserID: row.ActorUserID, SetAt: row.CreatedAt,
	}}
	if row.Value != nil && !overridden {
		one.Unfit = row.Value
	}
	return one, nil
}

// SetForTenant writes a new version of each key for a tenant, all or nothing; a change whose Value is nil ends what was set.
// It refuses as Set does, with PolicyNotPerTenant, and with TenantNotFound.
func (c *Client) SetForTenant(ctx context.Context, tenant id.Tenant, order Order, changes ...Change) ([]Override, error) {
	keys := make(map[string]policy.Key, len(changes))
	for _, change := range changes {
		key, err := policy.Find(change.Name)
		switch {
		case err != nil:
			return nil, err
		case !key.Info().Tenant:
			return nil, fault.Newf(fault.PolicyNotPerTenant, "%s holds for the whole platform and cannot be set for one tenant.", change.Name).With(map[string]any{"key": change.Name})
		case keys[change.Name] != nil:
			return nil, fault.Newf(fault.ValidationError, "%s is named twice.", change.Name).With(map[string]any{"key": change.Name})
		}
		if change.Value != nil {
			if _, err := key.FromJSON(change.Value); err != nil {
				return nil, err
			}
		}
		keys[change.Name] = key
	}
	var set []Override
	err := store.InTx(ctx, c.pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := queries.LockPolicy(ctx, tx); err != nil {
			return err
		}
		values, err := ReadForTenant(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if repeated, err := order.done(ctx, tx); err != nil || repeated {
			set, err = values.overridesOf(keys, changes)
			return err
		}
		if err := values.admitForTenant(keys, changes); err != nil {
			return err
		}
		for i, change := range changes {
			if err := writeForTenant(ctx, tx, tenant, values, order, i, keys[change.Name], change); err != nil {
				return err
			}
		}
		if values, err = ReadForTenant(ctx, tx, tenant); err != nil {
			return err
		}
		set, err = values.overridesOf(keys, changes)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.forget()
	return set, nil
}

func (v Values) overridesOf(keys map[string]policy.Key, changes []Change) ([]Override, error) {
	var found []Override
	for _, change := range changes {
		one, err := v.overrideOf(keys[change.Name])
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func (v Values) admitForTenant(keys map[string]policy.Key, changes []Change) error {
	together := v.texts()
	changed := make([]string, 0, len(changes))
	for _, change := range changes {
		if current := v.overrides[change.Name].Version; change.ExpectedVersion != nil && *change.ExpectedVersion != current {
			return fault.Newf(fault.PolicyVersionConflict, "%s is at version %d for this tenant, not %d.", change.Name, current, *change.ExpectedVersion).
				With(map[string]any{"key": change.Name, "version": current})
		}
		text := v.platformText(keys[change.Name])
		if change.Value != nil {
			var err error
			if text, err = keys[change.Name].FromJSON(change.Value); err != nil {
				return err
			}
		}
		together[change.Name] = text
		changed = append(changed, change.Name)
	}
	return policy.CheckChange(together, changed...)
}

func writeForTenant(ctx context.Context, tx pgx.Tx, tenant id.Tenant, values Values, order Order, index int, key policy.Key, change Change) error {
	next := queries.PolicyValue{
		Key: change.Name, Version: values.overrides[change.Name].Version + 1, Value: change.Value, Reason: order.Reason, ActorUserID: order.Actor.ID,
	}
	if err := queries.InsertTenantPolicyValue(ctx, tx, tenant, next); err != nil {
		return err
	}
	details := map[string]any{"from": values.text(key), "key": change.Name, "version": strconv.FormatInt(next.Version, 10), "reason": order.Reason}
	action := "policy.clear_for_tenant"
	if change.Value != nil {
		action = "policy.set_for_tenant"
		details["to"] = string(change.Value)
	}
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(tenant), Actor: order.Actor, Action: action, TargetType: "tenant", TargetID: string(tenant),
		CorrelationID: order.CorrelationID, RequestID: order.requestID(index), Details: details,
	})
}

// done says whether an earlier delivery of the request made its change.
func (o Order) done(ctx context.Context, tx pgx.Tx) (bool, error) {
	_, err := queries.AuditOfRequest(ctx, tx, o.RequestID)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// TenantHistory reads the versions below one that a key had for a tenant, newest first; a nil Value ended the override.
func (c *Client) TenantHistory(ctx context.Context, tenant id.Tenant, name string, before int64, limit int) ([]Version, error) {
	key, err := policy.Find(name)
	if err != nil {
		return nil, err
	}
	rows, err := queries.TenantPolicyHistory(ctx, c.pool, tenant, name, before, limit)
	if err != nil {
		return nil, err
	}
	return fitting(key, rows), nil
}
