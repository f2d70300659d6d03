package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type projectBody struct {
	ID         id.Project `json:"id" pattern:"^proj_[a-z2-7]{26}$"`
	TenantID   id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	Name       string     `json:"name"`
	IsDefault  bool       `json:"is_default"`
	ArchivedAt *moment    `json:"archived_at,omitempty" doc:"Since when nothing new begins in it."`
	CreatedAt  moment     `json:"created_at"`
}

type (
	ProjectPath struct {
		ProjectID id.Project `path:"project_id" pattern:"^proj_[a-z2-7]{26}$"`
	}
	projectFilter struct {
		Paging
		Where
		IncludeArchived bool `query:"include_archived" default:"false"`
	}
	projectOut      struct{ Body projectBody }
	projectListOut  struct{ Body list[projectBody] }
	createProjectIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			TenantID id.Tenant `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Your own tenant when absent."`
			Name     string    `json:"name" minLength:"1" maxLength:"100" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
		}
	}
	updateProjectIn struct {
		ProjectPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name string `json:"name" minLength:"1" maxLength:"100" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
		}
	}
	archiveProjectIn struct {
		ProjectPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

// projectRefusals are what the database refuses of a project.
var projectRefusals = map[string]fault.Code{
	queries.ConstraintProjectName: fault.ProjectAlreadyExists, queries.ConstraintProjectInUse: fault.ProjectInUse, queries.ConstraintDefaultStays: fault.ProjectIsDefault,
}

func (s *server) projectOperations() {
	handle(s, "listProjects", s.listProjects)
	handle(s, "createProject", s.createProject)
	handle(s, "getProject", s.getProject)
	handle(s, "updateProject", s.updateProject)
	handle(s, "archiveProject", s.archiveProject)
	handle(s, "listProjectMembers", s.listProjectMembers)
	handle(s, "putProjectMember", s.putProjectMember)
	handle(s, "removeProjectMember", s.removeProjectMember)
}

func (s *server) listProjects(ctx context.Context, in *projectFilter) (*projectListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	at := middleware.At(ctx)
	rows, err := queries.ReadProjects(ctx, s.config.Pool, queries.ProjectPage{
		TenantID: at.TenantID, ProjectID: at.ProjectID, IncludeArchived: in.IncludeArchived, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &projectListOut{Body: paged(in.Paging, rows, func(row queries.Project) after { return after{row.CreatedAt, string(row.ID)} }, renderProject)}, nil
}

// createProject makes a project whose id derives from the request, so that a repeat finds it.
func (s *server) createProject(ctx context.Context, in *createProjectIn) (*projectOut, error) {
	tenantID := middleware.At(ctx).TenantID
	projectID := deriveID[id.Project](s, "project", middleware.RequestOf(ctx).ID)
	err := s.change(ctx, projectAudit(tenantID, projectID, "project.create"), func(ctx context.Context, tx pgx.Tx) error {
		return orRefused(queries.InsertProject(ctx, tx, tenantID, projectID, in.Body.Name), projectRefusals)
	})
	if err != nil {
		return nil, err
	}
	return s.project(ctx, tenantID, projectID)
}

func (s *server) getProject(ctx context.Context, _ *ProjectPath) (*projectOut, error) {
	at := middleware.At(ctx)
	return s.project(ctx, at.TenantID, at.ProjectID)
}

func (s *server) project(ctx context.Context, tenant id.Tenant, project id.Project) (*projectOut, error) {
	row, err := queries.GetProject(ctx, s.config.Pool, tenant, project)
	if err != nil {
		return nil, orMissing(err, fault.ProjectNotFound)
	}
	return &projectOut{Body: renderProject(row)}, nil
}

func (s *server) updateProject(ctx context.Context, in *updateProjectIn) (*projectOut, error) {
	at := middleware.At(ctx)
	err := s.change(ctx, projectAudit(at.TenantID, at.ProjectID, "project.rename"), func(ctx context.Context, tx pgx.Tx) error {
		return orRefused(queries.RenameProject(ctx, tx, at.TenantID, at.ProjectID, in.Body.Name), projectRefusals)
	})
	if err != nil {
		return nil, err
	}
	return s.project(ctx, at.TenantID, at.ProjectID)
}

// archiveProject lets nothing new begin in a project. A project that is archived already stays so.
func (s *server) archiveProject(ctx context.Context, _ *archiveProjectIn) (*projectOut, error) {
	at := middleware.At(ctx)
	err := s.change(ctx, projectAudit(at.TenantID, at.ProjectID, "project.archive"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := queries.ArchiveProject(ctx, tx, at.TenantID, at.ProjectID)
		return orRefused(err, projectRefusals)
	})
	if err != nil {
		return nil, err
	}
	return s.project(ctx, at.TenantID, at.ProjectID)
}

func projectAudit(tenant id.Tenant, project id.Project, action string) *queries.Audit {
	return &queries.Audit{TenantID: string(tenant), Action: action, TargetType: "project", TargetID: string(project)}
}

func renderProject(row queries.Project) projectBody {
	return projectBody{ID: row.ID, TenantID: row.TenantID, Name: row.Name, IsDefault: row.IsDefault, ArchivedAt: maybe(row.ArchivedAt), CreatedAt: moment(row.CreatedAt)}
}
