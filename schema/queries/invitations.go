package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Invitation offers a role in a tenant, or in the project that is named, to whoever holds its token.
type Invitation struct {
	ID        id.Invitation
	TenantID  id.Tenant
	ProjectID id.Project
	Role      identity.Role
	// Email and Note say whom it was meant for. Whoever has that address, verified, may accept it without the token; nobody is held to it.
	Email      string
	Note       string
	InvitedBy  id.User
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  *time.Time
	AcceptedAt *time.Time
	AcceptedBy id.User
}

// InsertInvitation writes an invitation with the SHA-256 of its token, which nobody can read back.
func InsertInvitation(ctx context.Context, db DB, row Invitation, tokenHash [32]byte) error {
	_, err := execute(ctx, db, "InvitationInsert", pgx.NamedArgs{
		"id": row.ID, "tenant_id": row.TenantID, "project_id": optional(row.ProjectID), "role": row.Role, "email": row.Email, "note": row.Note,
		"token_hash": tokenHash[:], "invited_by": row.InvitedBy, "expires_at": row.ExpiresAt,
	})
	return err
}

// GetInvitation reads an invitation of any tenant; pgx.ErrNoRows when there is none.
func GetInvitation(ctx context.Context, db DB, invitation id.Invitation) (Invitation, error) {
	return one[Invitation](ctx, db, "InvitationGet", pgx.NamedArgs{"id": invitation})
}

// InvitationByToken reads the invitation of a token; pgx.ErrNoRows when there is none.
func InvitationByToken(ctx context.Context, db DB, tokenHash [32]byte) (Invitation, error) {
	return one[Invitation](ctx, db, "InvitationByToken", pgx.NamedArgs{"token_hash": tokenHash[:]})
}

// HoldInvitation is InvitationByToken that keeps everybody else who would use or revoke it waiting.
func HoldInvitation(ctx context.Context, db DB, tokenHash [32]byte) (Invitation, error) {
	return one[Invitation](ctx, db, "InvitationByTokenHold", pgx.NamedArgs{"token_hash": tokenHash[:]})
}

// InvitationPage selects a page of a tenant's invitations, newest first.
type InvitationPage struct {
	TenantID   id.Tenant
	ProjectID  id.Project
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadInvitations reads one page of a tenant's invitations, or of a project's.
func ReadInvitations(ctx context.Context, db DB, page InvitationPage) ([]Invitation, error) {
	return many[Invitation](ctx, db, "InvitationPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "project_id": optional(page.ProjectID), "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// RevokeInvitation makes an open invitation worthless; false when it was used or revoked already.
func RevokeInvitation(ctx context.Context, db DB, tenant id.Tenant, invitation id.Invitation) (bool, error) {
	changed, err := execute(ctx, db, "InvitationRevoke", pgx.NamedArgs{"id": invitation, "tenant_id": tenant})
	return changed == 1, err
}

// AcceptInvitation uses an open invitation up; false when it was used or revoked already.
func AcceptInvitation(ctx context.Context, db DB, tenant id.Tenant, invitation id.Invitation, user id.User) (bool, error) {
	changed, err := execute(ctx, db, "InvitationAccept", pgx.NamedArgs{"id": invitation, "tenant_id": tenant, "user_id": user})
	return changed == 1, err
}

// HoldInvitationByID is GetInvitation in a tenant that keeps everybody else who would use or revoke it waiting.
func HoldInvitationByID(ctx context.Context, db DB, tenant id.Tenant, invitation id.Invitation) (Invitation, error) {
	return one[Invitation](ctx, db, "InvitationHold", pgx.NamedArgs{"id": invitation, "tenant_id": tenant})
}

// OwnInvitation is an open one as whoever it is meant for sees it. Inviter is a user name.
type OwnInvitation struct {
	ID          id.Invitation
	TenantID    id.Tenant
	TenantName  string
	ProjectID   id.Project
	ProjectName string
	Role        identity.Role
	Note        string
	Inviter     string
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

// InvitationsOfAddress reads one page of the open invitations of any tenant that name an address, newest first.
func InvitationsOfAddress(ctx context.Context, db DB, address string, now time.Time, page Page) ([]OwnInvitation, error) {
	return many[OwnInvitation](ctx, db, "InvitationsOfAddress", page.arguments(pgx.NamedArgs{"email": address, "now": now}))
}
