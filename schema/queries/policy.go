package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// PolicyValue is one version of a key's value, as JSON of the key's type.
type PolicyValue struct {
	Key         string
	Version     int64
	Value       json.RawMessage
	Reason      string
	ActorUserID string
	CreatedAt   time.Time
}

// NewestPolicyValues reads the newest version of every key that was ever set.
func NewestPolicyValues(ctx context.Context, db DB) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "PolicyNewest")
}

// PolicyValuesAt reads the version of every key that was the newest at an instant.
func PolicyValuesAt(ctx context.Context, db DB, at time.Time) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "PolicyAt", pgx.NamedArgs{"at": at})
}

// TenantPolicyValuesAt reads the version of every key that was the newest for a tenant at an instant; one whose Value is nil had been ended.
func TenantPolicyValuesAt(ctx context.Context, db DB, tenant id.Tenant, at time.Time) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "TenantPolicyAt", pgx.NamedArgs{"tenant_id": tenant, "at": at})
}

// PolicyHistory reads a key's versions below one, newest first.
func PolicyHistory(ctx context.Context, db DB, key string, before int64, limit int) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "PolicyHistory", pgx.NamedArgs{"key": key, "before": before, "limit": limit})
}

// GetPolicyVersion reads one version of a key; pgx.ErrNoRows when there is none.
func GetPolicyVersion(ctx context.Context, db DB, key string, version int64) (PolicyValue, error) {
	return one[PolicyValue](ctx, db, "PolicyVersion", pgx.NamedArgs{"key": key, "version": version})
}

// LockPolicy makes writers of policy take turns until the transaction ends, for a value is judged beside all others.
func LockPolicy(ctx context.Context, db DB) error {
	_, err := execute(ctx, db, "PolicyLock")
	return err
}

// InsertPolicyValue adds a version.
func InsertPolicyValue(ctx context.Context, db DB, value PolicyValue) error {
	_, err := execute(ctx, db, "PolicyInsert", pgx.NamedArgs{
		"key": value.Key, "version": value.Version, "value": value.Value, "reason": value.Reason, "actor_user_id": value.ActorUserID,
	})
	return err
}

// NewestTenantPolicyValues reads the newest version of every key that was ever set for a tenant; one whose Value is nil
// was ended.
func NewestTenantPolicyValues(ctx context.Context, db DB, tenant id.Tenant) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "TenantPolicyNewest", pgx.NamedArgs{"tenant_id": tenant})
}

// TenantPolicyHistory reads the versions below one that a key had for a tenant, newest first.
func TenantPolicyHistory(ctx context.Context, db DB, tenant id.Tenant, key string, before int64, limit int) ([]PolicyValue, error) {
	return many[PolicyValue](ctx, db, "TenantPolicyHistory", pgx.NamedArgs{"tenant_id": tenant, "key": key, "before": before, "limit": limit})
}

// InsertTenantPolicyValue adds a version for a tenant; a nil Value ends the override.
func InsertTenantPolicyValue(ctx context.Context, db DB, tenant id.Tenant, value PolicyValue) error {
	_, err := execute(ctx, db, "TenantPolicyInsert", pgx.NamedArgs{
		"tenant_id": tenant, "key": value.Key, "version": value.Version, "value": value.Value, "reason": value.Reason, "actor_user_id": value.ActorUserID,
	})
	return err
}
