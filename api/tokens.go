package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
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

// scopeName is a permission as a scope of a token.
type scopeName identity.Permission

// Schema lists the permissions.
func (scopeName) Schema(huma.Registry) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for _, permission := range identity.Permissions() {
		schema.Enum = append(schema.Enum, string(permission))
	}
	return schema
}

// TokenBody is what is shown of a personal access token; it is exported because what embeds it shows its fields too.
type TokenBody struct {
	ID         id.Credential `json:"id" pattern:"^cred_[a-z2-7]{26}$"`
	Name       string        `json:"name"`
	Scopes     []scopeName   `json:"scopes"`
	CreatedAt  moment        `json:"created_at"`
	ExpiresAt  moment        `json:"expires_at"`
	LastUsedAt *moment       `json:"last_used_at,omitempty" doc:"The minute of its last use."`
	RevokedAt  *moment       `json:"revoked_at,omitempty" doc:"When it, or the token that made it, was revoked."`
}

type createdTokenBody struct {
	TokenBody
	Token string `json:"token" doc:"Shown once."`
}

type (
	TokenPath struct {
		TokenID id.Credential `path:"token_id" pattern:"^cred_[a-z2-7]{26}$"`
	}
	createTokenIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name             string      `json:"name" minLength:"1" maxLength:"63"`
			Scopes           []scopeName `json:"scopes" minItems:"1" maxItems:"50"`
			ExpiresInSeconds int64       `json:"expires_in_seconds,omitempty" minimum:"60" maximum:"31536000" doc:"As long as policy allows when absent."`
		}
	}
	revokeTokenIn struct {
		TokenPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	createdTokenOut struct{ Body createdTokenBody }
	tokenOut        struct{ Body TokenBody }
	tokenListOut    struct{ Body list[TokenBody] }
)

func (s *server) tokenOperations() {
	handle(s, "createToken", s.createToken)
	handle(s, "listTokens", s.listTokens)
	handle(s, "revokeToken", s.revokeToken)
	handle(s, "exchangeToken", s.exchangeToken)
}

// mintSecret makes 256 bits behind a prefix: from the idempotency key where there is one, so that a repeat makes the same
// secret again and no answer has to be kept.
func (s *server) mintSecret(prefix, key string, parts ...string) (text string, credential id.Credential) {
	entropy, credential := random32(), id.New[id.Credential](random16())
	if key != "" {
		entropy = s.derive(append([]string{prefix, key}, parts...)...)
		credential = deriveID[id.Credential](s, append([]string{prefix, "id", key}, parts...)...)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(entropy[:]), credential
}

// createToken makes a personal access token. It is good for what its maker may do with the credential in hand, and for as
// long as that one at most: no token makes a wider one.
func (s *server) createToken(ctx context.Context, in *createTokenIn) (*createdTokenOut, error) {
	who := middleware.Principal(ctx)
	if who.Service {
		return nil, fault.New(fault.InsufficientPermissions, "A service account has secrets and no personal tokens.")
	}
	if err := checkName(in.Body.Name); err != nil {
		return nil, err
	}
	scopes, err := scopesWithin(who.Reaches, in.Body.Scopes)
	if err != nil {
		return nil, err
	}
	text, credentialID := s.mintSecret(secret.PersonalTokenPrefix, in.IdempotencyKey, string(who.UserID))
	now, hash := s.now(), queries.HashCredential(text)
	expires, err := s.tokenExpiry(ctx, who, now, in.Body.ExpiresInSeconds)
	if err != nil {
		return nil, err
	}
	made := queries.Credential{
		ID: credentialID, Kind: queries.CredentialPersonal, UserID: who.UserID, SHA256: hash[:], Name: in.Body.Name, Scopes: scopes,
		ParentID: parentOf(who), CreatedBy: string(who.UserID), CreatedAt: now, ExpiresAt: &expires,
	}
	if standing, err := queries.FindCredential(ctx, s.config.Pool, hash); err == nil {
		if standing.Name != made.Name || !slices.Equal(standing.Scopes, made.Scopes) || (in.Body.ExpiresInSeconds != 0 &&
			!standing.ExpiresAt.Equal(standing.CreatedAt.Add(time.Duration(in.Body.ExpiresInSeconds)*time.Second))) {
			return nil, fault.New(fault.IdempotencyConflict, "")
		}
		middleware.MarkReplayed(ctx)
		return &createdTokenOut{Body: createdTokenBody{TokenBody: renderToken(standing), Token: text}}, nil
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		inserted, err := queries.InsertCredential(ctx, tx, made)
		if err != nil {
			return err
		}
		if !inserted {
			return fault.New(fault.IdempotencyInFlight, "")
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(who.TenantID), Actor: who.Actor(), Action: "token.create", TargetType: "token", TargetID: string(made.ID),
			CorrelationID: telemetry.Correlation(ctx), Details: map[string]any{"scopes": made.Scopes, "expires_at": expires},
		})
	})
	if err != nil {
		return nil, err
	}
	return &createdTokenOut{Body: createdTokenBody{TokenBody: renderToken(made), Token: text}}, nil
}

// now is the clock in whole milliseconds, as rows keep it.
func (s *server) now() time.Time { return s.config.Now().UTC().Truncate(time.Millisecond) }

// tokenExpiry is when a new token ends: as asked, within policy, and not after the token that makes it.
func (s *server) tokenExpiry(ctx context.Context, who identity.Principal, now time.Time, askedSeconds int64) (time.Time, error) {
	longest, err := s.config.Policy.Int(ctx, authored.AuthPersonalTokenMaxTTLSeconds)
	if err != nil {
		return time.Time{}, err
	}
	if askedSeconds > longest {
		return time.Time{}, invalid("body.expires_in_seconds", fmt.Sprintf("policy allows at most %d seconds", longest))
	}
	seconds := longest
	if askedSeconds > 0 {
		seconds = askedSeconds
	}
	expires := now.Add(time.Duration(seconds) * time.Second)
	if who.CredentialID == "" {
		return expires, nil
	}
	held, err := queries.GetCredential(ctx, s.config.Pool, who.UserID, queries.CredentialPersonal, id.Credential(who.CredentialID))
	switch {
	case err != nil:
		return expires, err
	case !expires.After(*held.ExpiresAt):
		return expires, nil
	case askedSeconds > 0:
		return expires, invalid("body.expires_in_seconds", "a token made with a token does not outlive it")
	default:
		return *held.ExpiresAt, nil
	}
}

// parentOf is the credential in hand, which what is made with it does not outlive.
func parentOf(who identity.Principal) *id.Credential {
	if who.CredentialID == "" {
		return nil
	}
	held := id.Credential(who.CredentialID)
	return &held
}

// scopesWithin sorts scopes and refuses those that their holder would not reach with fault.TokenScopeInvalid.
func scopesWithin(reaches func(identity.Permission) bool, asked []scopeName) ([]identity.Permission, error) {
	scopes := make([]identity.Permission, 0, len(asked))
	for _, one := range asked {
		scope := identity.Permission(one)
		if !reaches(scope) {
			return nil, fault.Newf(fault.TokenScopeInvalid, "The scope %s is more than you hold yourself.", scope).With(map[string]any{"scope": scope})
		}
		scopes = append(scopes, scope)
	}
	slices.Sort(scopes)
	return slices.Compact(scopes), nil
}

func (s *server) listTokens(ctx context.Context, in *Paging) (*tokenListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadCredentials(ctx, s.config.Pool, queries.CredentialPage{
		UserID: middleware.Principal(ctx).UserID, Kind: queries.CredentialPersonal, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &tokenListOut{Body: paged(*in, rows, placeOfCredential, renderToken)}, nil
}

func placeOfCredential(row queries.Credential) after { return after{row.CreatedAt, string(row.ID)} }

// revokeToken ends a token at once, on every replica, with what was made with it. A token that is revoked already stays so.
func (s *server) revokeToken(ctx context.Context, in *revokeTokenIn) (*tokenOut, error) {
	who := middleware.Principal(ctx)
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		revoked, err := queries.RevokeCredential(ctx, tx, who.UserID, queries.CredentialPersonal, in.TokenID, s.now())
		if err != nil || !revoked {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(who.TenantID), Actor: who.Actor(), Action: "token.revoke", TargetType: "token", TargetID: string(in.TokenID),
			CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
		})
	})
	if err != nil {
		return nil, err
	}
	row, err := queries.GetCredential(ctx, s.config.Pool, who.UserID, queries.CredentialPersonal, in.TokenID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.TokenNotFound, "")
	}
	return &tokenOut{Body: renderToken(row)}, err
}

func renderToken(row queries.Credential) TokenBody {
	body := TokenBody{
		ID: row.ID, Name: row.Name, Scopes: scopeNames(row.Scopes), CreatedAt: moment(row.CreatedAt),
		LastUsedAt: maybe(row.LastUsedAt), RevokedAt: maybe(row.RevokedAt),
	}
	if row.ExpiresAt != nil {
		body.ExpiresAt = moment(*row.ExpiresAt)
	}
	return body
}

func scopeNames(scopes []identity.Permission) []scopeName {
	names := make([]scopeName, len(scopes))
	for i, scope := range scopes {
		names[i] = scopeName(scope)
	}
	return names
}
