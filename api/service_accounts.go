package api

import (
	"context"
	"errors"
	"fmt"
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

// serviceRole is a role that a program may have: every one but the owner's.
type serviceRole identity.Role

// Schema lists them.
func (serviceRole) Schema(huma.Registry) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for _, role := range identity.MemberRoles() {
		if role != identity.Owner {
			schema.Enum = append(schema.Enum, string(role))
		}
	}
	return schema
}

// ServiceAccountSecretBody is what is shown of a secret; it is exported because what embeds it shows its fields too.
type ServiceAccountSecretBody struct {
	ID         id.Credential `json:"id" pattern:"^cred_[a-z2-7]{26}$"`
	CreatedAt  moment        `json:"created_at"`
	ExpiresAt  *moment       `json:"expires_at,omitempty" doc:"When the overlap with its successor ends."`
	LastUsedAt *moment       `json:"last_used_at,omitempty" doc:"The minute of its last use."`
}

type serviceAccountBody struct {
	ID         id.User                    `json:"id" pattern:"^user_[a-z2-7]{26}$" doc:"Also the client id."`
	TenantID   id.Tenant                  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	ProjectID  id.Project                 `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The one project it belongs to; absent for the whole tenant."`
	Name       string                     `json:"name"`
	Role       serviceRole                `json:"role"`
	CreatedBy  string                     `json:"created_by"`
	CreatedAt  moment                     `json:"created_at"`
	DisabledAt *moment                    `json:"disabled_at,omitempty"`
	Secrets    []ServiceAccountSecretBody `json:"secrets" doc:"Those that can be exchanged now, newest first."`
}

type mintedSecretBody struct {
	ServiceAccountSecretBody
	ClientID     id.User `json:"client_id" pattern:"^user_[a-z2-7]{26}$"`
	ClientSecret string  `json:"client_secret" doc:"Shown once."`
}

type (
	ServiceAccountPath struct {
		ServiceAccountID id.User `path:"service_account_id" pattern:"^user_[a-z2-7]{26}$"`
	}
	createServiceAccountIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name      string      `json:"name" minLength:"1" maxLength:"63"`
			Role      serviceRole `json:"role"`
			ProjectID id.Project  `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The one project it belongs to; the whole tenant when absent."`
			TenantID  id.Tenant   `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Your own tenant when neither is named."`
		}
	}
	updateServiceAccountIn struct {
		ServiceAccountPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Disabled bool `json:"disabled"`
		}
	}
	createServiceAccountSecretIn struct {
		ServiceAccountPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			OverlapSeconds *int64 `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"For how long the secrets before it stay valid; policy's value when absent."`
		}
	}
	revokeServiceAccountSecretIn struct {
		ServiceAccountPath
		SecretID       id.Credential `path:"secret_id" pattern:"^cred_[a-z2-7]{26}$"`
		IdempotencyKey string        `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	serviceAccountListIn struct {
		Paging
		Where
	}
	serviceAccountOut     struct{ Body serviceAccountBody }
	serviceAccountListOut struct{ Body list[serviceAccountBody] }
	mintedSecretOut       struct{ Body mintedSecretBody }
)

func (s *server) serviceAccountOperations() {
	handle(s, "createServiceAccount", s.createServiceAccount)
	handle(s, "listServiceAccounts", s.listServiceAccounts)
	handle(s, "getServiceAccount", s.getServiceAccount)
	handle(s, "updateServiceAccount", s.updateServiceAccount)
	handle(s, "createServiceAccountSecret", s.createServiceAccountSecret)
	handle(s, "revokeServiceAccountSecret", s.revokeServiceAccountSecret)
}

// mayGive refuses a role that holds what the caller does not hold there with the credential in hand.
func mayGive(who identity.Principal, role identity.Role, tenant id.Tenant, project id.Project) error {
	for _, permission := range role.Scopes(project != "") {
		if !who.InScope(permission) || !permission.Personal() && !who.Holds(permission, tenant, project) {
			return fault.Newf(fault.InsufficientPermissions, "The role %s holds %s, which is more than you hold here.", role, permission).
				With(map[string]any{"permission": permission})
		}
	}
	return nil
}

// createServiceAccount makes the account without a secret. Its id derives from the request, so that a repeat finds it.
func (s *server) createServiceAccount(ctx context.Context, in *createServiceAccountIn) (*serviceAccountOut, error) {
	who, at, request := middleware.Principal(ctx), middleware.At(ctx), middleware.RequestOf(ctx)
	if err := checkName(in.Body.Name); err != nil {
		return nil, err
	}
	account := queries.ServiceAccount{
		UserID: deriveID[id.User](s, "service-account", request.ID), TenantID: at.TenantID, ProjectID: in.Body.ProjectID,
		Name: in.Body.Name, Role: identity.Role(in.Body.Role), CreatedBy: string(who.UserID),
	}
	if err := mayGive(who, account.Role, account.TenantID, account.ProjectID); err != nil {
		return nil, err
	}
	if _, made, err := s.changed(ctx); err != nil || made {
		if err != nil {
			return nil, err
		}
		return s.serviceAccount(ctx, account.UserID)
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		inserted, err := queries.InsertServiceAccount(ctx, tx, account)
		if err != nil {
			return err
		}
		if !inserted {
			return fault.New(fault.ServiceAccountAlreadyExists, "")
		}
		return queries.InsertAudit(ctx, tx, s.auditOf(ctx, account, "service_account.create", map[string]any{"role": account.Role, "project_id": account.ProjectID}))
	})
	if err != nil {
		return nil, err
	}
	return s.serviceAccount(ctx, account.UserID)
}

// auditOf is the row that tells of a change of a service account.
func (s *server) auditOf(ctx context.Context, account queries.ServiceAccount, action string, details map[string]any) queries.Audit {
	return queries.Audit{
		TenantID: string(account.TenantID), Actor: middleware.Principal(ctx).Actor(), Action: action, TargetType: "service_account",
		TargetID: string(account.UserID), CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID, Details: details,
	}
}

func (s *server) listServiceAccounts(ctx context.Context, in *serviceAccountListIn) (*serviceAccountListOut, error) {
	at := middleware.At(ctx)
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadServiceAccounts(ctx, s.config.Pool, queries.ServiceAccountPage{
		TenantID: at.TenantID, ProjectID: in.ProjectID, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	render, err := s.serviceAccountRenderer(ctx, rows)
	if err != nil {
		return nil, err
	}
	return &serviceAccountListOut{Body: paged(in.Paging, rows, func(row queries.ServiceAccount) after { return after{row.CreatedAt, string(row.UserID)} }, render)}, nil
}

func (s *server) getServiceAccount(ctx context.Context, in *ServiceAccountPath) (*serviceAccountOut, error) {
	return s.serviceAccount(ctx, in.ServiceAccountID)
}

func (s *server) serviceAccount(ctx context.Context, userID id.User) (*serviceAccountOut, error) {
	row, err := queries.GetServiceAccount(ctx, s.config.Pool, userID)
	if err != nil {
		return nil, err
	}
	render, err := s.serviceAccountRenderer(ctx, []queries.ServiceAccount{row})
	if err != nil {
		return nil, err
	}
	return &serviceAccountOut{Body: render(row)}, nil
}

// serviceAccountRenderer reads the secrets that stand beside accounts.
func (s *server) serviceAccountRenderer(ctx context.Context, rows []queries.ServiceAccount) (func(queries.ServiceAccount) serviceAccountBody, error) {
	users := make([]id.User, len(rows))
	for i, row := range rows {
		users[i] = row.UserID
	}
	live, err := queries.LiveSecrets(ctx, s.config.Pool, users, s.now())
	if err != nil {
		return nil, err
	}
	secrets := map[id.User][]ServiceAccountSecretBody{}
	for _, one := range live {
		secrets[one.UserID] = append(secrets[one.UserID], renderAccountSecret(one))
	}
	return func(row queries.ServiceAccount) serviceAccountBody {
		body := serviceAccountBody{
			ID: row.UserID, TenantID: row.TenantID, ProjectID: row.ProjectID, Name: row.Name, Role: serviceRole(row.Role),
			CreatedBy: row.CreatedBy, CreatedAt: moment(row.CreatedAt), DisabledAt: maybe(row.DisabledAt), Secrets: secrets[row.UserID],
		}
		if body.Secrets == nil {
			body.Secrets = []ServiceAccountSecretBody{}
		}
		return body
	}, nil
}

func renderAccountSecret(row queries.Credential) ServiceAccountSecretBody {
	return ServiceAccountSecretBody{ID: row.ID, CreatedAt: moment(row.CreatedAt), ExpiresAt: maybe(row.ExpiresAt), LastUsedAt: maybe(row.LastUsedAt)}
}

// updateServiceAccount disables an account, with every token it has, or enables it again.
func (s *server) updateServiceAccount(ctx context.Context, in *updateServiceAccountIn) (*serviceAccountOut, error) {
	account, err := theServiceAccount(ctx)
	if err != nil {
		return nil, err
	}
	action, at := "service_account.enable", (*time.Time)(nil)
	if in.Body.Disabled {
		now := s.now()
		action, at = "service_account.disable", &now
	} else if err := mayGive(middleware.Principal(ctx), account.Role, account.TenantID, account.ProjectID); err != nil {
		return nil, err
	}
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		changed, err := queries.DisableServiceAccount(ctx, tx, account.TenantID, account.UserID, at)
		if err != nil || !changed {
			return err
		}
		return queries.InsertAudit(ctx, tx, s.auditOf(ctx, account, action, nil))
	})
	if err != nil {
		return nil, err
	}
	return s.serviceAccount(ctx, account.UserID)
}

// theServiceAccount is the row that the guard read to find out who may ask.
func theServiceAccount(ctx context.Context) (queries.ServiceAccount, error) {
	row, found := middleware.At(ctx).Object.(queries.ServiceAccount)
	if !found {
		return row, fault.New(fault.ServiceAccountNotFound, "")
	}
	return row, nil
}

// createServiceAccountSecret makes a secret and leaves the ones before it valid for an overlap, in which whoever holds them
// changes over.
func (s *server) createServiceAccountSecret(ctx context.Context, in *createServiceAccountSecretIn) (*mintedSecretOut, error) {
	who := middleware.Principal(ctx)
	account, err := theServiceAccount(ctx)
	if err != nil {
		return nil, err
	}
	if err := mayGive(who, account.Role, account.TenantID, account.ProjectID); err != nil {
		return nil, err
	}
	overlap, err := s.config.Policy.Int(ctx, authored.AuthServiceAccountSecretOverlapSeconds)
	if err != nil {
		return nil, err
	}
	if in.Body.OverlapSeconds != nil {
		overlap = *in.Body.OverlapSeconds
	}
	text, credentialID := s.mintSecret(secret.ServiceAccountSecretPrefix, in.IdempotencyKey, string(who.UserID), string(account.UserID))
	now, hash := s.now(), queries.HashCredential(text)
	made := queries.Credential{
		ID: credentialID, Kind: queries.CredentialSecret, UserID: account.UserID, SHA256: hash[:], OverlapSeconds: &overlap,
		CreatedBy: string(who.UserID), CreatedAt: now,
	}
	replayed := false
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := queries.LockServiceAccount(ctx, tx, account.TenantID, account.UserID); err != nil {
			return err
		}
		inserted, err := queries.InsertCredential(ctx, tx, made)
		if err != nil {
			return err
		}
		if !inserted {
			replayed = true
			made, err = queries.FindCredential(ctx, tx, hash)
			return err
		}
		if err := queries.OverlapSecrets(ctx, tx, account.UserID, made.ID, now.Add(time.Duration(overlap)*time.Second)); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, s.auditOf(ctx, account, "service_account.mint_secret", map[string]any{"credential_id": made.ID, "overlap_seconds": overlap}))
	})
	if err != nil {
		return nil, err
	}
	if replayed {
		if in.Body.OverlapSeconds != nil && *made.OverlapSeconds != overlap {
			return nil, fault.New(fault.IdempotencyConflict, "")
		}
		middleware.MarkReplayed(ctx)
	}
	return &mintedSecretOut{Body: mintedSecretBody{ServiceAccountSecretBody: renderAccountSecret(made), ClientID: account.UserID, ClientSecret: text}}, nil
}

// revokeServiceAccountSecret ends a secret and the access tokens that it was exchanged for, at once.
func (s *server) revokeServiceAccountSecret(ctx context.Context, in *revokeServiceAccountSecretIn) (*serviceAccountOut, error) {
	account, err := theServiceAccount(ctx)
	if err != nil {
		return nil, err
	}
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		revoked, err := queries.RevokeCredential(ctx, tx, account.UserID, queries.CredentialSecret, in.SecretID, s.now())
		if err != nil {
			return err
		}
		if revoked {
			return queries.InsertAudit(ctx, tx, s.auditOf(ctx, account, "service_account.revoke_secret", map[string]any{"credential_id": in.SecretID}))
		}
		_, err = queries.GetCredential(ctx, tx, account.UserID, queries.CredentialSecret, in.SecretID)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.New(fault.TokenNotFound, fmt.Sprintf("The service account has no secret %s.", in.SecretID))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.serviceAccount(ctx, account.UserID)
}
