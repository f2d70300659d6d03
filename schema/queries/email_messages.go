package queries

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// EmailRecipient is somebody who is told of something, and where; Off says that they want no mail of its category.
type EmailRecipient struct {
	ID            id.User
	Email         string
	EmailVerified bool
	Off           bool
}

// EmailRecipients reads who holds one of these roles in a tenant.
func EmailRecipients(ctx context.Context, db DB, tenant id.Tenant, roles []identity.Role, category email.Category) ([]EmailRecipient, error) {
	return many[EmailRecipient](ctx, db, "EmailRecipients", pgx.NamedArgs{"tenant_id": tenant, "roles": roles, "category": category})
}

// EmailOwner reads whose something in a tenant is; pgx.ErrNoRows where it is no person, or one who has left.
func EmailOwner(ctx context.Context, db DB, tenant id.Tenant, user id.User, category email.Category) (EmailRecipient, error) {
	return one[EmailRecipient](ctx, db, "EmailOwner", pgx.NamedArgs{"tenant_id": tenant, "user_id": user, "category": category})
}

// EmailUnwanted says whether somebody whose verified address this is wants no mail of a category.
func EmailUnwanted(ctx context.Context, db DB, address string, category email.Category) (bool, error) {
	row, err := one[struct{ Unwanted bool }](ctx, db, "EmailUnwanted", pgx.NamedArgs{"email": address, "category": category})
	return row.Unwanted, err
}

// EmailMessage is one mail to one recipient: a user, or whom an invitation is meant for. Payload is nil once it has ended.
type EmailMessage struct {
	ID            id.Mail
	TenantID      id.Tenant
	EventID       string
	Kind          email.Kind
	UserID        id.User
	InvitationID  id.Invitation
	Payload       json.RawMessage
	State         email.State
	Detail        string
	Attempts      int
	NextAttemptAt *time.Time
	CreatedAt     time.Time
}

// InsertEmailMessage writes one under the id that derives from its event and recipient; false when it stands already.
func InsertEmailMessage(ctx context.Context, db DB, m EmailMessage) (bool, error) {
	sum := sha256.Sum256([]byte(m.EventID + "\x00" + string(m.UserID) + "\x00" + string(m.InvitationID)))
	changed, err := execute(ctx, db, "EmailMessageInsert", pgx.NamedArgs{
		"id": id.New[id.Mail]([16]byte(sum[:16])), "tenant_id": m.TenantID, "event_id": m.EventID, "kind": m.Kind, "user_id": optional(m.UserID),
		"invitation_id": optional(m.InvitationID), "payload": m.Payload, "state": m.State, "detail": m.Detail,
	})
	return changed == 1, err
}

// InsertInvitationEmail writes the mail to whom an invitation is meant for, in the transaction of the invitation.
func InsertInvitationEmail(ctx context.Context, db DB, tenant id.Tenant, invitation id.Invitation, payload json.RawMessage) error {
	_, err := InsertEmailMessage(ctx, db, EmailMessage{
		TenantID: tenant, EventID: factUUID(string(email.InvitationCreated) + "\x00" + string(invitation)), Kind: email.InvitationCreated, InvitationID: invitation,
		Payload: payload, State: email.Pending,
	})
	return err
}

// GetEmailMessage reads one of any tenant; pgx.ErrNoRows when there is none.
func GetEmailMessage(ctx context.Context, db DB, message id.Mail) (EmailMessage, error) {
	return one[EmailMessage](ctx, db, "EmailMessageGet", pgx.NamedArgs{"id": message})
}

// MoveEmailMessage writes what came of an attempt, counted from 1; false when that was written before, or the message has ended.
func MoveEmailMessage(ctx context.Context, db DB, m EmailMessage, attempt int, to email.State, detail string, next *time.Time) (bool, error) {
	changed, err := execute(ctx, db, "EmailMessageMove", pgx.NamedArgs{
		"id": m.ID, "tenant_id": m.TenantID, "attempts": attempt, "state": to, "detail": detail, "next_attempt_at": next,
	})
	return changed == 1, err
}

// EndEmailMessage ends one that is not attempted any more; false when it has ended.
func EndEmailMessage(ctx context.Context, db DB, m EmailMessage, to email.State, detail string) (bool, error) {
	changed, err := execute(ctx, db, "EmailMessageEnd", pgx.NamedArgs{"id": m.ID, "tenant_id": m.TenantID, "state": to, "detail": detail})
	return changed == 1, err
}

// DueEmail is a message that has no workflow yet.
type DueEmail struct {
	ID       id.Mail
	TenantID id.Tenant
	Kind     email.Kind
}

// DueEmails lists some of them, oldest first.
func DueEmails(ctx context.Context, db DB, limit int) ([]DueEmail, error) {
	return many[DueEmail](ctx, db, "EmailMessagesNotBegun", pgx.NamedArgs{"row_limit": limit})
}

// NoteEmailBegun writes that a message's workflow was begun.
func NoteEmailBegun(ctx context.Context, db DB, due DueEmail) error {
	_, err := execute(ctx, db, "EmailMessageBegun", pgx.NamedArgs{"id": due.ID, "tenant_id": due.TenantID})
	return err
}

// PurgeEmailMessages removes a limited number of those older than keep that nobody is sending, and says how many.
func PurgeEmailMessages(ctx context.Context, db DB, keep time.Duration, limit int) (int64, error) {
	return execute(ctx, db, "EmailMessagesPurge", pgx.NamedArgs{"keep": keep, "row_limit": limit})
}
