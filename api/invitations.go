package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type invitationBody struct {
	ID         id.Invitation `json:"id" pattern:"^inv_[a-z2-7]{26}$"`
	TenantID   id.Tenant     `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	ProjectID  id.Project    `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The only project it is for."`
	Role       identity.Role `json:"role" enum:"owner,admin,member,viewer,billing"`
	Email      string        `json:"email,omitempty"`
	Note       string        `json:"note,omitempty"`
	Status     string        `json:"status" enum:"open,accepted,revoked,expired"`
	InvitedBy  id.User       `json:"invited_by" pattern:"^user_[a-z2-7]{26}$"`
	AcceptedBy id.User       `json:"accepted_by,omitempty" pattern:"^user_[a-z2-7]{26}$"`
	AcceptedAt *moment       `json:"accepted_at,omitempty"`
	RevokedAt  *moment       `json:"revoked_at,omitempty"`
	ExpiresAt  moment        `json:"expires_at"`
	CreatedAt  moment        `json:"created_at"`
}

type (
	invitationFilter struct {
		Paging
		Where
	}
	invitationOut      struct{ Body invitationBody }
	invitationListOut  struct{ Body list[invitationBody] }
	createInvitationIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			TenantID  id.Tenant     `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Your own tenant when absent."`
			ProjectID id.Project    `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"Into this project alone."`
			Role      identity.Role `json:"role" enum:"owner,admin,member,viewer,billing" doc:"A single project can give admin, member and viewer."`
			Email     string        `json:"email,omitempty" maxLength:"254" pattern:"^[^@\\x00-\\x20\\x7f]+@[^@\\x00-\\x20\\x7f]+$" doc:"Whom it is meant for: they are written to, and may accept it without the token."`
			Note      string        `json:"note,omitempty" maxLength:"500" pattern:"^[^\\x00]*$"`
		}
	}
	createdInvitationOut struct {
		Body struct {
			Token      string         `json:"token" doc:"Shown once; whoever holds it can accept."`
			Invitation invitationBody `json:"invitation"`
		}
	}
	revokeInvitationIn struct {
		InvitationID   id.Invitation `path:"invitation_id" pattern:"^inv_[a-z2-7]{26}$"`
		IdempotencyKey string        `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	acceptInvitationIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Token string `json:"token" minLength:"1" maxLength:"512"`
		}
	}
)

func (s *server) invitationOperations() {
	handle(s, "listInvitations", s.listInvitations)
	handle(s, "createInvitation", s.createInvitation)
	handle(s, "revokeInvitation", s.revokeInvitation)
	handle(s, "acceptInvitation", s.acceptInvitation)
	handle(s, "listMyInvitations", s.listMyInvitations)
	handle(s, "acceptMyInvitation", s.acceptMyInvitation)
}

func (s *server) listInvitations(ctx context.Context, in *invitationFilter) (*invitationListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	at := middleware.At(ctx)
	rows, err := queries.ReadInvitations(ctx, s.config.Pool, queries.InvitationPage{
		TenantID: at.TenantID, ProjectID: at.ProjectID, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &invitationListOut{Body: paged(in.Paging, rows,
		func(row queries.Invitation) after { return after{row.CreatedAt, string(row.ID)} }, s.renderInvitation)}, nil
}

// createInvitation mints a token. Only its hash is stored, and its answer is never kept for replay: with an idempotency key the token
// and the invitation's id derive from the key, so a repeat mints the same token again and finds its row.
func (s *server) createInvitation(ctx context.Context, in *createInvitationIn) (*createdInvitationOut, error) {
	at, who := middleware.At(ctx), middleware.Principal(ctx)
	wanted := queries.Invitation{
		ID: id.New[id.Invitation](random16()), TenantID: at.TenantID, ProjectID: at.ProjectID, Role: in.Body.Role,
		Email: in.Body.Email, Note: in.Body.Note, InvitedBy: who.UserID,
	}
	switch {
	case at.ProjectID != "" && in.Body.TenantID != "" && in.Body.TenantID != at.TenantID:
		return nil, invalid("body.tenant_id", "the project belongs to another tenant")
	case at.ProjectID != "" && (wanted.Role == identity.Owner || wanted.Role == identity.Billing):
		return nil, invalid("body.role", "this role is about a whole tenant, not about a single project")
	}
	entropy := random32()
	if in.IdempotencyKey != "" {
		entropy = s.derive("invitation-token", string(at.TenantID), string(who.UserID), in.IdempotencyKey)
		wanted.ID = deriveID[id.Invitation](s, "invitation", string(at.TenantID), string(who.UserID), in.IdempotencyKey)
	}
	token := secret.InvitationPrefix + base64.RawURLEncoding.EncodeToString(entropy[:])
	minted, err := queries.InvitationByToken(ctx, s.config.Pool, sha256.Sum256([]byte(token)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// Of two with one key at once the second finds what the first made.
		if err := s.mintInvitation(ctx, wanted, token); err != nil && !queries.Violates(err, queries.ConstraintInvitation) {
			return nil, err
		}
		minted, err = queries.GetInvitation(ctx, s.config.Pool, wanted.ID)
	case err == nil && (minted.ProjectID != wanted.ProjectID || minted.Role != wanted.Role || minted.Email != wanted.Email || minted.Note != wanted.Note):
		err = fault.New(fault.IdempotencyConflict, "")
	case err == nil:
		middleware.MarkReplayed(ctx)
	}
	if err != nil {
		return nil, err
	}
	out := &createdInvitationOut{}
	out.Body.Token, out.Body.Invitation = token, s.renderInvitation(minted)
	return out, nil
}

func (s *server) mintInvitation(ctx context.Context, wanted queries.Invitation, token string) error {
	at := middleware.At(ctx)
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return err
	}
	wanted.ExpiresAt = s.config.Now().UTC().Truncate(time.Millisecond).Add(values.Seconds(authored.IdentityInvitationTTLSeconds))
	row := invitationAudit(wanted, "invitation.create")
	return s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldTenant(ctx, tx, at.TenantID); err != nil {
			return orMissing(err, fault.TenantNotFound)
		}
		if err := mayChangeMembersOf(ctx, tx, at); err != nil {
			return err
		}
		if wanted.Role == identity.Owner {
			own, err := queries.GetMember(ctx, tx, at.TenantID, wanted.InvitedBy)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			if err := grantedBy(own.Role, identity.TenantOwn); err != nil {
				return err
			}
		}
		if at.ProjectID != "" {
			project, err := queries.HoldProject(ctx, tx, at.TenantID, at.ProjectID)
			if err != nil {
				return orMissing(err, fault.ProjectNotFound)
			}
			if project.ArchivedAt != nil {
				return fault.New(fault.ProjectArchived, "")
			}
		}
		if err := queries.InsertInvitation(ctx, tx, wanted, sha256.Sum256([]byte(token))); err != nil {
			return err
		}
		return writeToInvited(ctx, tx, wanted)
	})
}

// revokeInvitation makes an invitation worthless. One that is not open any more stays what it became.
func (s *server) revokeInvitation(ctx context.Context, _ *revokeInvitationIn) (*invitationOut, error) {
	invitation, _ := middleware.At(ctx).Object.(queries.Invitation)
	err := s.change(ctx, invitationAudit(invitation, "invitation.revoke"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := queries.RevokeInvitation(ctx, tx, invitation.TenantID, invitation.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	row, err := queries.GetInvitation(ctx, s.config.Pool, invitation.ID)
	if err != nil {
		return nil, orMissing(err, fault.InvitationNotFound)
	}
	return &invitationOut{Body: s.renderInvitation(row)}, nil
}

// acceptInvitation makes the caller what the invitation offers. It repeats harmlessly for the same person; whatever else is
// wrong with a token is one answer, which tells nothing of the tenant.
func (s *server) acceptInvitation(ctx context.Context, in *acceptInvitationIn) (*invitationOut, error) {
	who := middleware.Principal(ctx)
	if who.Service {
		return nil, fault.New(fault.InsufficientPermissions, "A service account accepts no invitation.")
	}
	hash := sha256.Sum256([]byte(in.Body.Token))
	offered, err := queries.InvitationByToken(ctx, s.config.Pool, hash)
	if err != nil {
		return nil, orMissing(err, fault.InvitationInvalid)
	}
	return s.accept(ctx, offered, func(ctx context.Context, tx pgx.Tx) (queries.Invitation, error) {
		return queries.HoldInvitation(ctx, tx, hash)
	})
}

// accept makes the caller what an invitation offers, which hold reads once more and keeps.
func (s *server) accept(ctx context.Context, offered queries.Invitation, hold func(context.Context, pgx.Tx) (queries.Invitation, error)) (*invitationOut, error) {
	who := middleware.Principal(ctx)
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		tenant, err := queries.HoldTenant(ctx, tx, offered.TenantID)
		if err != nil {
			return err
		}
		if offered, err = hold(ctx, tx); err != nil {
			return orMissing(err, fault.InvitationInvalid)
		}
		switch {
		case offered.AcceptedBy == who.UserID:
			return nil
		case s.invitationStatus(offered) != invitationOpen:
			return fault.New(fault.InvitationInvalid, "")
		case tenant.Status != queries.TenantActive:
			return fault.New(fault.TenantSuspended, "")
		}
		if err := stillOffered(ctx, tx, offered); err != nil {
			return err
		}
		if err := enter(ctx, tx, offered, who.UserID); err != nil {
			return err
		}
		if _, err := queries.AcceptInvitation(ctx, tx, offered.TenantID, offered.ID, who.UserID); err != nil {
			return err
		}
		row := invitationAudit(offered, "invitation.accept")
		row.Actor, row.CorrelationID, row.RequestID = who.Actor(), telemetry.Correlation(ctx), middleware.RequestOf(ctx).ID
		return queries.InsertAudit(ctx, tx, *row)
	})
	if err != nil {
		return nil, err
	}
	row, err := queries.GetInvitation(ctx, s.config.Pool, offered.ID)
	return &invitationOut{Body: s.renderInvitation(row)}, err
}

// stillOffered asks whether whoever made an invitation could make it now: what somebody offered is worth no more than what they are, however
// they came to be less. Faults: InvitationInvalid, which tells nothing of them.
func stillOffered(ctx context.Context, tx pgx.Tx, offered queries.Invitation) error {
	found, err := queries.GetIdentity(ctx, tx, offered.InvitedBy)
	if err != nil {
		return err
	}
	inviter, err := middleware.PrincipalOf(found, nil)
	if err != nil || !inviter.Holds(identity.MembersWrite, offered.TenantID, offered.ProjectID) ||
		offered.Role == identity.Owner && !inviter.Holds(identity.TenantOwn, offered.TenantID, "") {
		return fault.New(fault.InvitationInvalid, "")
	}
	if !inviter.Service {
		return nil
	}
	account, err := queries.GetServiceAccount(ctx, tx, offered.InvitedBy)
	if err == nil && account.DisabledAt != nil {
		err = fault.New(fault.InvitationInvalid, "")
	}
	return err
}

// enter makes a user a member as an invitation offers it. Whoever is one already keeps the role they have.
func enter(ctx context.Context, tx pgx.Tx, offered queries.Invitation, user id.User) error {
	var err error
	if offered.ProjectID == "" {
		_, err = queries.GetMember(ctx, tx, offered.TenantID, user)
	} else {
		project, missing := queries.HoldProject(ctx, tx, offered.TenantID, offered.ProjectID)
		if missing != nil {
			return missing
		}
		if project.ArchivedAt != nil {
			return fault.New(fault.InvitationInvalid, "")
		}
		_, err = queries.GetProjectMember(ctx, tx, offered.TenantID, offered.ProjectID, user)
	}
	switch {
	case err == nil:
		return fault.New(fault.MemberAlreadyExists, "You are a member already; the invitation stays open.")
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	case offered.ProjectID == "":
		return queries.AddTenantMember(ctx, tx, offered.TenantID, user, offered.Role, queries.MemberByInvitation)
	default:
		return queries.PutProjectMember(ctx, tx, offered.TenantID, offered.ProjectID, user, offered.Role)
	}
}

func invitationAudit(row queries.Invitation, action string) *queries.Audit {
	details := map[string]any{"role": row.Role}
	if row.ProjectID != "" {
		details["project_id"] = row.ProjectID
	}
	return &queries.Audit{TenantID: string(row.TenantID), Action: action, TargetType: "invitation", TargetID: string(row.ID), Details: details}
}

const (
	invitationOpen     = "open"
	invitationAccepted = "accepted"
	invitationRevoked  = "revoked"
	invitationExpired  = "expired"
)

func (s *server) invitationStatus(row queries.Invitation) string {
	switch {
	case row.AcceptedAt != nil:
		return invitationAccepted
	case row.RevokedAt != nil:
		return invitationRevoked
	case !s.config.Now().Before(row.ExpiresAt):
		return invitationExpired
	default:
		return invitationOpen
	}
}

func (s *server) renderInvitation(row queries.Invitation) invitationBody {
	return invitationBody{
		ID: row.ID, TenantID: row.TenantID, ProjectID: row.ProjectID, Role: row.Role, Email: row.Email, Note: row.Note, Status: s.invitationStatus(row),
		InvitedBy: row.InvitedBy, AcceptedBy: row.AcceptedBy, AcceptedAt: maybe(row.AcceptedAt), RevokedAt: maybe(row.RevokedAt),
		ExpiresAt: moment(row.ExpiresAt), CreatedAt: moment(row.CreatedAt),
	}
}
