package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Project is the folder allocations live in.
type Project struct {
	ID        id.Project
	TenantID  id.Tenant
	Name      string
	IsDefault bool
	// ArchivedAt says since when nothing new begins in it.
	ArchivedAt *time.Time
	CreatedAt  time.Time
}

// GetProject reads a project of a tenant; pgx.ErrNoRows when there is none.
func GetProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project) (Project, error) {
	return one[Project](ctx, db, "ProjectGet", pgx.NamedArgs{"id": project, "tenant_id": tenant})
}

// HoldProject reads a project and keeps whoever would archive it waiting; pgx.ErrNoRows when there is none.
func HoldProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project) (Project, error) {
	return one[Project](ctx, db, "ProjectHold", pgx.NamedArgs{"id": project, "tenant_id": tenant})
}

// ProjectPage selects a page of a tenant's projects, newest first.
type ProjectPage struct {
	TenantID id.Tenant
	// ProjectID narrows the page to one project, for whoever sees no other.
	ProjectID       id.Project
	IncludeArchived bool
	BeforeTime      time.Time
	BeforeID        string
	Limit           int
}

// ReadProjects reads one page of a tenant's projects.
func ReadProjects(ctx context.Context, db DB, page ProjectPage) ([]Project, error) {
	return many[Project](ctx, db, "ProjectPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "project_id": optional(page.ProjectID), "include_archived": page.IncludeArchived,
		"before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// InsertProject makes a project. ConstraintProjectName is violated where the tenant has one of that name.
func InsertProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project, name string) error {
	_, err := execute(ctx, db, "ProjectInsert", pgx.NamedArgs{"id": project, "tenant_id": tenant, "name": name, "is_default": false})
	return err
}

// RenameProject changes what a project is called. ConstraintProjectName is violated where the tenant has one of that name.
func RenameProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project, name string) error {
	_, err := execute(ctx, db, "ProjectRename", pgx.NamedArgs{"id": project, "tenant_id": tenant, "name": name})
	return err
}

// ArchiveProject lets nothing new begin in a project; false when that was so already. ConstraintProjectInUse is violated while
// something runs in it, ConstraintDefaultStays by the default project.
func ArchiveProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project) (bool, error) {
	changed, err := execute(ctx, db, "ProjectArchive", pgx.NamedArgs{"id": project, "tenant_id": tenant})
	return changed == 1, err
}

// ProjectMember is somebody with a role in one project.
type ProjectMember struct {
	UserID    id.User
	Username  string
	Role      identity.Role
	CreatedAt time.Time
}

// GetProjectMember reads a member of a project; pgx.ErrNoRows when there is none.
func GetProjectMember(ctx context.Context, db DB, tenant id.Tenant, project id.Project, user id.User) (ProjectMember, error) {
	return one[ProjectMember](ctx, db, "ProjectMemberGet", pgx.NamedArgs{"tenant_id": tenant, "project_id": project, "user_id": user})
}

// ReadProjectMembers reads one page of a project's own members, newest first.
func ReadProjectMembers(ctx context.Context, db DB, project id.Project, page MemberPage) ([]ProjectMember, error) {
	return many[ProjectMember](ctx, db, "ProjectMemberPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "project_id": project, "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// PutProjectMember gives a user a role in a project, whether they held one there or not, and ends what they offered others there in
// the old one.
func PutProjectMember(ctx context.Context, db DB, tenant id.Tenant, project id.Project, user id.User, role identity.Role) error {
	arguments := pgx.NamedArgs{"tenant_id": tenant, "project_id": project, "user_id": user, "role": role}
	if _, err := execute(ctx, db, "ProjectMemberPut", arguments); err != nil {
		return err
	}
	_, err := execute(ctx, db, "ProjectMemberRevokeInvitations", arguments)
	return err
}

// RemoveProjectMember ends a user's role in a project, and what they offered others there; false when they held none there.
func RemoveProjectMember(ctx context.Context, db DB, tenant id.Tenant, project id.Project, user id.User) (bool, error) {
	arguments := pgx.NamedArgs{"tenant_id": tenant, "project_id": project, "user_id": user}
	removed, err := execute(ctx, db, "ProjectMemberDelete", arguments)
	if err != nil || removed == 0 {
		return false, err
	}
	_, err = execute(ctx, db, "ProjectMemberRevokeInvitations", arguments)
	return true, err
}

// BelongsToTenant says whether a user is a member of a tenant or of any project of it.
func BelongsToTenant(ctx context.Context, db DB, tenant id.Tenant, user id.User) (bool, error) {
	row, err := one[struct{ Belongs bool }](ctx, db, "ProjectMemberElsewhere", pgx.NamedArgs{"tenant_id": tenant, "user_id": user})
	return row.Belongs, err
}
