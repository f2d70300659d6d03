package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// SSHKey is a public key that a user keeps for the allocations of a project.
type SSHKey struct {
	ID        id.SSHKey
	TenantID  id.Tenant
	ProjectID id.Project
	UserID    id.User
	Name      string
	// PublicKey is type and key in authorized_keys form.
	PublicKey   string
	Fingerprint string
	CreatedAt   time.Time
}

// InsertSSHKey writes one; false when the project has a key of that fingerprint.
func InsertSSHKey(ctx context.Context, db DB, key SSHKey) (bool, error) {
	changed, err := execute(ctx, db, "SSHKeyInsert", pgx.NamedArgs{
		"id": key.ID, "tenant_id": key.TenantID, "project_id": key.ProjectID, "user_id": key.UserID, "name": key.Name,
		"public_key": key.PublicKey, "fingerprint": key.Fingerprint, "created_at": key.CreatedAt,
	})
	return changed > 0, err
}

// GetSSHKey reads one, of whatever tenant; pgx.ErrNoRows when there is none.
func GetSSHKey(ctx context.Context, db DB, key id.SSHKey) (SSHKey, error) {
	return one[SSHKey](ctx, db, "SSHKeyGet", pgx.NamedArgs{"id": key})
}

// SSHKeyPage selects a page of a tenant's keys, newest first; a project narrows it.
type SSHKeyPage struct {
	TenantID   id.Tenant
	ProjectID  id.Project
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadSSHKeys reads one page.
func ReadSSHKeys(ctx context.Context, db DB, page SSHKeyPage) ([]SSHKey, error) {
	return many[SSHKey](ctx, db, "SSHKeyPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "project_id": optional(page.ProjectID), "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// SSHKeysByID reads those of a project's keys that are named; what is none of its keys is absent.
func SSHKeysByID(ctx context.Context, db DB, tenant id.Tenant, project id.Project, keys []id.SSHKey) ([]SSHKey, error) {
	return many[SSHKey](ctx, db, "SSHKeysByID", pgx.NamedArgs{"tenant_id": tenant, "project_id": project, "ids": texts(keys)})
}

// DeleteSSHKey forgets one; false when it is gone already.
func DeleteSSHKey(ctx context.Context, db DB, tenant id.Tenant, key id.SSHKey) (bool, error) {
	changed, err := execute(ctx, db, "SSHKeyDelete", pgx.NamedArgs{"id": key, "tenant_id": tenant})
	return changed > 0, err
}
