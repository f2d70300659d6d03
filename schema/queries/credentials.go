package queries

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Kinds of credentials.
const (
	// CredentialPersonal is a person's own token.
	CredentialPersonal = "personal"
	// CredentialSecret is what a service account exchanges for access tokens.
	CredentialSecret = "secret"
	// CredentialAccess is an access token that a secret was exchanged for.
	CredentialAccess = "access"
)

// Credential is one secret that a program holds, known by its hash.
type Credential struct {
	ID       id.Credential
	Kind     string
	UserID   id.User
	SHA256   []byte `db:"sha256"`
	Name     string
	Scopes   []identity.Permission
	ParentID *id.Credential
	// OverlapSeconds is for how long a secret left the ones before it valid, in seconds.
	OverlapSeconds *int64
	CreatedBy      string
	CreatedAt      time.Time
	ExpiresAt      *time.Time
	// LastUsedAt is the minute of its last use.
	LastUsedAt *time.Time
	// RevokedAt is when it, or one that it was made with, was revoked.
	RevokedAt *time.Time
}

// Expired says whether its time is over.
func (c Credential) Expired(now time.Time) bool {
	return c.ExpiresAt != nil && !now.Before(*c.ExpiresAt)
}

// HashCredential is what is kept of a secret.
func HashCredential(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// InsertCredential writes one; false when its secret is there already.
func InsertCredential(ctx context.Context, db DB, c Credential) (bool, error) {
	scopes := make([]string, len(c.Scopes))
	for i, scope := range c.Scopes {
		scopes[i] = string(scope)
	}
	changed, err := execute(ctx, db, "CredentialInsert", pgx.NamedArgs{
		"id": c.ID, "kind": c.Kind, "user_id": c.UserID, "sha256": c.SHA256, "name": c.Name, "scopes": scopes, "parent_id": c.ParentID,
		"overlap_seconds": c.OverlapSeconds, "created_by": c.CreatedBy, "created_at": c.CreatedAt, "expires_at": c.ExpiresAt,
	})
	return changed > 0, err
}

// FindCredential reads the one with that hash; pgx.ErrNoRows when there is none.
func FindCredential(ctx context.Context, db DB, hash [sha256.Size]byte) (Credential, error) {
	return one[Credential](ctx, db, "CredentialBySHA256", pgx.NamedArgs{"sha256": hash[:]})
}

// GetCredential reads a user's credential of a kind; pgx.ErrNoRows when there is none.
func GetCredential(ctx context.Context, db DB, user id.User, kind string, credential id.Credential) (Credential, error) {
	return one[Credential](ctx, db, "CredentialOfUser", pgx.NamedArgs{"id": credential, "user_id": user, "kind": kind})
}

// CredentialPage selects a page of a user's credentials of a kind, newest first.
type CredentialPage struct {
	UserID     id.User
	Kind       string
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadCredentials reads one page.
func ReadCredentials(ctx context.Context, db DB, page CredentialPage) ([]Credential, error) {
	return many[Credential](ctx, db, "CredentialPage", pgx.NamedArgs{
		"user_id": page.UserID, "kind": page.Kind, "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// LiveSecrets are the secrets of service accounts that can be exchanged at an instant, newest first.
func LiveSecrets(ctx context.Context, db DB, users []id.User, at time.Time) ([]Credential, error) {
	return many[Credential](ctx, db, "CredentialSecretsLive", pgx.NamedArgs{"user_ids": texts(users), "at": at})
}

// RevokeCredential ends a user's credential of a kind from now on; false when it was revoked before or is none of theirs.
func RevokeCredential(ctx context.Context, db DB, user id.User, kind string, credential id.Credential, at time.Time) (bool, error) {
	changed, err := execute(ctx, db, "CredentialRevoke", pgx.NamedArgs{"id": credential, "user_id": user, "kind": kind, "at": at})
	return changed > 0, err
}

// OverlapSecrets leaves the secrets of an account other than the new one valid until then at most.
func OverlapSecrets(ctx context.Context, db DB, user id.User, fresh id.Credential, until time.Time) error {
	_, err := execute(ctx, db, "CredentialSecretsOverlap", pgx.NamedArgs{"user_id": user, "id": fresh, "until": until})
	return err
}

// NoteCredentialsUsed keeps the minute in which credentials were used.
func NoteCredentialsUsed(ctx context.Context, db DB, credentials []id.Credential, at time.Time) error {
	_, err := execute(ctx, db, "CredentialUsed", pgx.NamedArgs{"ids": texts(credentials), "at": at})
	return err
}

// ForgetAccessTokens removes a service account's access tokens that expired before then.
func ForgetAccessTokens(ctx context.Context, db DB, user id.User, before time.Time) error {
	_, err := execute(ctx, db, "CredentialForgetAccess", pgx.NamedArgs{"user_id": user, "before": before})
	return err
}
