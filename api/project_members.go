package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type projectMemberBody struct {
	UserID    id.User       `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	Username  string        `json:"username"`
	Role      identity.Role `json:"role" enum:"owner,admin,member,viewer,billing"`
	CreatedAt moment        `json:"created_at"`
}

type (
	ProjectMemberPath struct {
		ProjectPath
		UserID id.User `path:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	}
	projectMemberListIn struct {
		ProjectPath
		Paging
	}
	projectMemberListOut struct{ Body list[projectMemberBody] }
	projectMemberOut     struct{ Body projectMemberBody }
	putProjectMemberIn   struct {
		ProjectMemberPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Role identity.Role `json:"role" enum:"admin,member,viewer" doc:"What a single project can give; owners and billing are about the whole tenant."`
		}
	}
	removeProjectMemberIn struct {
		ProjectMemberPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

func (s *server) listProjectMembers(ctx context.Context, in *projectMemberListIn) (*projectMemberListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	at := middleware.At(ctx)
	rows, err := queries.ReadProjectMembers(ctx, s.config.Pool, at.ProjectID, queries.MemberPage{
		TenantID: at.TenantID, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &projectMemberListOut{Body: paged(in.Paging, rows,
		func(row queries.ProjectMember) after { return after{row.CreatedAt, string(row.UserID)} }, renderProjectMember)}, nil
}

// putProjectMember gives somebody of the tenant a role in one project of it; whoever is not of the tenant is invited.
func (s *server) putProjectMember(ctx context.Context, in *putProjectMemberIn) (*projectMemberOut, error) {
	at := middleware.At(ctx)
	row := memberAudit(at.TenantID, in.UserID, "project_member.set_role")
	row.Details = map[string]any{"project_id": at.ProjectID, "to": in.Body.Role}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldTenant(ctx, tx, at.TenantID); err != nil {
			return orMissing(err, fault.TenantNotFound)
		}
		if err := mayChangeMembersOf(ctx, tx, at); err != nil {
			return err
		}
		belongs, err := queries.BelongsToTenant(ctx, tx, at.TenantID, in.UserID)
		if err == nil && !belongs {
			err = fault.New(fault.MemberNotFound, "This person does not belong to the tenant; invite them.")
		}
		if err != nil {
			return err
		}
		return queries.PutProjectMember(ctx, tx, at.TenantID, at.ProjectID, in.UserID, in.Body.Role)
	})
	if err != nil {
		return nil, err
	}
	member, err := queries.GetProjectMember(ctx, s.config.Pool, at.TenantID, at.ProjectID, in.UserID)
	return &projectMemberOut{Body: renderProjectMember(member)}, orMissing(err, fault.MemberNotFound)
}

// removeProjectMember ends somebody's role in a project; everybody may leave by removing themselves.
func (s *server) removeProjectMember(ctx context.Context, in *removeProjectMemberIn) (*struct{}, error) {
	at := middleware.At(ctx)
	row := memberAudit(at.TenantID, in.UserID, "project_member.remove")
	row.Details = map[string]any{"project_id": at.ProjectID}
	return nil, s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldTenant(ctx, tx, at.TenantID); err != nil {
			return orMissing(err, fault.TenantNotFound)
		}
		if in.UserID != middleware.Principal(ctx).UserID {
			if err := mayChangeMembersOf(ctx, tx, at); err != nil {
				return err
			}
		}
		removed, err := queries.RemoveProjectMember(ctx, tx, at.TenantID, at.ProjectID, in.UserID)
		if err == nil && !removed {
			err = fault.New(fault.MemberNotFound, "")
		}
		return err
	})
}

// mayChangeMembersOf asks again, in the transaction of a change, whether the caller manages the members of a project or of its tenant.
func mayChangeMembersOf(ctx context.Context, tx pgx.Tx, at middleware.Place) error {
	found, err := queries.GetIdentity(ctx, tx, middleware.Principal(ctx).UserID)
	if err != nil {
		return err
	}
	var strongest identity.Role
	for _, held := range found.Memberships {
		switch {
		case held.TenantID != at.TenantID:
		case held.ProjectID == "" && held.Role.Grants(identity.MembersWrite), held.ProjectID == at.ProjectID && held.Role.GrantsInProject(identity.MembersWrite):
			return nil
		case held.ProjectID == "":
			strongest = held.Role
		}
	}
	return grantedBy(strongest, identity.MembersWrite)
}

func renderProjectMember(row queries.ProjectMember) projectMemberBody {
	return projectMemberBody{UserID: row.UserID, Username: row.Username, Role: row.Role, CreatedAt: moment(row.CreatedAt)}
}
