package middleware

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// ownPrefix begins every secret of the platform; no issuer's token begins so.
const ownPrefix = "gpuaas_"

// kindOf says as which kind of credential a token signs in, by its prefix; empty for none. A service account's secret signs
// nobody in: it is exchanged.
func kindOf(token string) string {
	switch {
	case strings.HasPrefix(token, secret.PersonalTokenPrefix):
		return queries.CredentialPersonal
	case strings.HasPrefix(token, secret.ServiceAccountTokenPrefix):
		return queries.CredentialAccess
	default:
		return ""
	}
}

// credential finds who holds a token of the platform's own, by its hash. What is remembered of it is forgotten at every
// change of the token, its account or its user; that its time is over is looked at each time.
func (a *Authenticator) credential(ctx context.Context, token string) (identity.Principal, error) {
	if kindOf(token) == "" {
		return identity.Principal{}, fault.New(fault.TokenInvalid, "This is a secret of the platform that signs nobody in.")
	}
	now, hash := time.Now(), queries.HashCredential(token)
	key := "token\x00" + string(hash[:])
	found, hit, changes := a.identities.get(key, now)
	if !hit {
		var err error
		if found, err = a.holder(ctx, hash); err != nil {
			return identity.Principal{}, err
		}
		a.identities.put(key, found, now, changes)
	}
	credential := found.Credential
	switch {
	case subtle.ConstantTimeCompare(credential.SHA256, hash[:]) != 1, credential.Kind != kindOf(token), credential.RevokedAt != nil:
		return identity.Principal{}, fault.New(fault.TokenInvalid, "")
	case credential.Expired(now):
		return identity.Principal{}, fault.New(fault.TokenExpired, "The token has expired; get a new one.")
	case found.Account != nil && found.Account.DisabledAt != nil:
		return identity.Principal{}, fault.New(fault.TokenInvalid, "The service account is disabled.")
	}
	principal, err := PrincipalOf(found, []string{identity.RoleUser})
	if err != nil {
		return principal, err
	}
	principal.CredentialID = string(credential.ID)
	// Never nil: a token without scopes is good for nothing, and not for everything.
	principal.Scopes = append([]identity.Permission{}, credential.Scopes...)
	if found.Account != nil {
		principal.Roles = []string{identity.RoleService}
		if found.Account.ProjectID != "" {
			principal.ProjectID = found.Account.ProjectID
		}
	}
	a.Used(ctx, credential.ID)
	return principal, nil
}

// holder reads a credential with the user it belongs to.
func (a *Authenticator) holder(ctx context.Context, hash [32]byte) (queries.Identity, error) {
	credential, err := queries.FindCredential(ctx, a.config.Pool, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return queries.Identity{}, fault.New(fault.TokenInvalid, "")
	}
	if err != nil {
		return queries.Identity{}, unavailable(err)
	}
	found, err := queries.GetIdentity(ctx, a.config.Pool, credential.UserID)
	if err != nil {
		return queries.Identity{}, unavailable(err)
	}
	found.Credential = credential
	if found.User.Kind != queries.UserService {
		return found, nil
	}
	account, err := queries.GetServiceAccount(ctx, a.config.Pool, credential.UserID)
	found.Account = &account
	return found, unavailable(err)
}

// Used notes that a credential was used: one write a minute, however many requests there are.
func (a *Authenticator) Used(ctx context.Context, credential id.Credential) {
	minute := time.Now().UTC().Truncate(time.Minute)
	if !a.used.first(credential, minute) {
		return
	}
	if err := queries.NoteCredentialsUsed(ctx, a.config.Pool, []id.Credential{credential}, minute); err != nil {
		a.config.Log.WarnContext(ctx, "the use of a token could not be noted", "credential_id", string(credential), "error", err.Error())
	}
}

// credentialUse remembers in which minute each credential was last noted as used.
type credentialUse struct {
	mutex   sync.Mutex
	minutes map[id.Credential]time.Time
}

// first says whether nobody asked for this credential in this minute before.
func (u *credentialUse) first(credential id.Credential, minute time.Time) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if !u.minutes[credential].Before(minute) {
		return false
	}
	if u.minutes == nil || len(u.minutes) >= knownAtMost {
		u.minutes = map[id.Credential]time.Time{}
	}
	u.minutes[credential] = minute
	return true
}
