package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	rules "github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type (
	myInvitationBody struct {
		ID          id.Invitation `json:"id" pattern:"^inv_[a-z2-7]{26}$"`
		TenantID    id.Tenant     `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
		TenantName  string        `json:"tenant_name"`
		ProjectID   id.Project    `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The only project it is for."`
		ProjectName string        `json:"project_name,omitempty"`
		Role        identity.Role `json:"role" enum:"owner,admin,member,viewer,billing"`
		Note        string        `json:"note,omitempty"`
		Inviter     string        `json:"inviter" doc:"The user name of whoever made it."`
		ExpiresAt   moment        `json:"expires_at"`
		CreatedAt   moment        `json:"created_at"`
	}
	listMyInvitationsIn  struct{ Paging }
	myInvitationListOut  struct{ Body list[myInvitationBody] }
	acceptMyInvitationIn struct {
		InvitationID   id.Invitation `path:"invitation_id" pattern:"^inv_[a-z2-7]{26}$"`
		IdempotencyKey string        `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

// writeToInvited writes the mail to whom an invitation is meant for. It holds no token: who signs in with the address needs none.
func writeToInvited(ctx context.Context, tx pgx.Tx, offered queries.Invitation) error {
	if !rules.Address(offered.Email) {
		return nil
	}
	payload, err := json.Marshal(email.Invitation{InvitationID: string(offered.ID), Role: offered.Role, ExpiresAt: offered.ExpiresAt})
	if err != nil {
		return err
	}
	return queries.InsertInvitationEmail(ctx, tx, offered.TenantID, offered.ID, payload)
}

func (s *server) listMyInvitations(ctx context.Context, in *listMyInvitationsIn) (*myInvitationListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	address, err := s.verifiedAddress(ctx)
	if err != nil {
		return nil, err
	}
	var rows []queries.OwnInvitation
	if address != "" {
		rows, err = queries.InvitationsOfAddress(ctx, s.config.Pool, address, s.config.Now(), queries.Page{BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch()})
		if err != nil {
			return nil, err
		}
	}
	return &myInvitationListOut{Body: paged(in.Paging, rows,
		func(row queries.OwnInvitation) after { return after{row.CreatedAt, string(row.ID)} }, renderMyInvitation)}, nil
}

// acceptMyInvitation makes the caller what an invitation to their verified address offers. Of any other it tells nothing.
func (s *server) acceptMyInvitation(ctx context.Context, in *acceptMyInvitationIn) (*invitationOut, error) {
	address, err := s.verifiedAddress(ctx)
	if err != nil {
		return nil, err
	}
	offered, err := queries.GetInvitation(ctx, s.config.Pool, in.InvitationID)
	if err != nil {
		return nil, orMissing(err, fault.InvitationNotFound)
	}
	if !rules.Same(offered.Email, address) {
		return nil, fault.New(fault.InvitationNotFound, "")
	}
	return s.accept(ctx, offered, func(ctx context.Context, tx pgx.Tx) (queries.Invitation, error) {
		held, err := queries.HoldInvitationByID(ctx, tx, offered.TenantID, offered.ID)
		if err == nil && !rules.Same(held.Email, address) {
			return held, fault.New(fault.InvitationNotFound, "") // erased meanwhile
		}
		return held, err
	})
}

// verifiedAddress is the caller's, empty where their issuer vouches for none.
func (s *server) verifiedAddress(ctx context.Context) (string, error) {
	known, err := queries.EmailAddressOf(ctx, s.config.Pool, middleware.Principal(ctx).UserID)
	if errors.Is(err, pgx.ErrNoRows) || !known.EmailVerified {
		return "", nil
	}
	return known.Email, err
}

func renderMyInvitation(row queries.OwnInvitation) myInvitationBody {
	return myInvitationBody{
		ID: row.ID, TenantID: row.TenantID, TenantName: row.TenantName, ProjectID: row.ProjectID, ProjectName: row.ProjectName, Role: row.Role, Note: row.Note,
		Inviter: row.Inviter, ExpiresAt: moment(row.ExpiresAt), CreatedAt: moment(row.CreatedAt),
	}
}
