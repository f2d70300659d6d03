package api

import (
	"context"
	"encoding/hex"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type userBody struct {
	ID           id.User   `json:"id" pattern:"^user_[a-z2-7]{26}$"`
	TenantID     id.Tenant `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$" doc:"The tenant that they are at home in."`
	Username     string    `json:"username"`
	Kind         string    `json:"kind" enum:"person,service"`
	Status       string    `json:"status" enum:"active,pending,suspended"`
	StatusReason string    `json:"status_reason,omitempty"`
	StatusAt     *moment   `json:"status_at,omitempty"`
	CreatedAt    moment    `json:"created_at"`
}

// identityFilter selects what belongs to a person or to a tenant, for operators.
type identityFilter struct {
	Paging
	Username string    `query:"username" minLength:"1" maxLength:"255"`
	TenantID id.Tenant `query:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
}

func (f identityFilter) page() (queries.IdentityPage, error) {
	from, err := f.start()
	return queries.IdentityPage{Username: f.Username, TenantID: f.TenantID, BeforeTime: from.Time, BeforeID: from.ID, Limit: f.fetch()}, err
}

type (
	UserPath struct {
		UserID id.User `path:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	}
	userFilter struct {
		Paging
		Username string    `query:"username" minLength:"1" maxLength:"255"`
		TenantID id.Tenant `query:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
		Status   string    `query:"status" enum:"active,pending,suspended"`
	}
	userOut      struct{ Body userBody }
	userListOut  struct{ Body list[userBody] }
	createUserIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Issuer   string `json:"issuer" minLength:"1" maxLength:"500" pattern:"^[^\\x00-\\x1f\\x7f]+$" doc:"The identity provider's issuer, as it stands in its tokens."`
			Subject  string `json:"subject,omitempty" maxLength:"255" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"What its tokens call them. Without it, whoever signs in first under the user name takes the user over."`
			Username string `json:"username" minLength:"1" maxLength:"255" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
			OrgID    string `json:"org_id,omitempty" maxLength:"255" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"The organisation that its tokens name; a personal tenant is made without it."`
			Reason   string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	operateUserIn struct {
		UserPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

func (s *server) userOperations() {
	handle(s, "listUsers", s.listUsers)
	handle(s, "createUser", s.createUser)
	handle(s, "getUser", func(ctx context.Context, in *UserPath) (*userOut, error) { return s.user(ctx, in.UserID) })
	handle(s, "approveUser", s.approveUser)
	for operation, update := range map[string]string{"suspendUser": workflows.SuspendUpdate, "restoreUser": workflows.RestoreUpdate} {
		handle(s, operation, func(ctx context.Context, in *operateUserIn) (*userOut, error) {
			if err := s.changeStanding(ctx, update, workflows.Subject{UserID: in.UserID}, in.Body.Reason); err != nil {
				return nil, err
			}
			return s.user(ctx, in.UserID)
		})
	}
}

func (s *server) listUsers(ctx context.Context, in *userFilter) (*userListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadUsers(ctx, s.config.Pool, queries.IdentityPage{
		Username: in.Username, TenantID: in.TenantID, Status: in.Status, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &userListOut{Body: paged(in.Paging, rows, func(row queries.User) after { return after{row.CreatedAt, string(row.ID)} }, renderUser)}, nil
}

func (s *server) user(ctx context.Context, userID id.User) (*userOut, error) {
	row, err := queries.UserOfAll(ctx, s.config.Pool, userID)
	if err != nil {
		return nil, orMissing(err, fault.UserNotFound)
	}
	return &userOut{Body: renderUser(row)}, nil
}

// createUser registers somebody before their first sign-in, with the tenant, project and account that it would make; they need no
// approval then. The user's id derives from the request, so that a repeat finds it.
func (s *server) createUser(ctx context.Context, in *createUserIn) (*userOut, error) {
	request := middleware.RequestOf(ctx).ID
	wanted := queries.SignIn{
		Issuer: in.Body.Issuer, Subject: in.Body.Subject, Username: in.Body.Username, OrgID: in.Body.OrgID, Currency: s.config.Currency,
		TenantID: deriveID[id.Tenant](s, "register", request), UserID: deriveID[id.User](s, "register", request),
		ProjectID: deriveID[id.Project](s, "register", request), AccountID: deriveID[id.Account](s, "register", request),
	}
	unknown := random32()
	row := &queries.Audit{Action: "user.create", TargetType: "user", TargetID: string(wanted.UserID), Details: map[string]any{"reason": in.Body.Reason}}
	var made queries.Identity
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) (err error) {
		var taken bool
		made, taken, err = queries.RegisterUser(ctx, tx, wanted, "awaited:"+hex.EncodeToString(unknown[:]))
		switch {
		case err == nil && taken && made.User.ID != "":
			return fault.New(fault.UserAlreadyExists, "").With(map[string]any{"user_id": made.User.ID})
		case taken, queries.Violates(err, queries.ConstraintAwaitedPerson):
			return fault.New(fault.UserAlreadyExists, "Somebody of this name is awaited already.")
		case err != nil:
			return err
		}
		row.TenantID = string(made.User.TenantID)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if home, there := made.Home(); there {
		s.welcome(ctx, identity.Principal{UserID: made.User.ID, TenantID: home.TenantID, AccountID: home.AccountID}, made.User.Issuer, made.User.Subject, false)
	}
	return s.user(ctx, wanted.UserID)
}

// approveUser lets somebody in who waits for it, once for its request.
func (s *server) approveUser(ctx context.Context, in *operateUserIn) (*userOut, error) {
	row := &queries.Audit{Action: "user.approve", TargetType: "user", TargetID: string(in.UserID)}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		user, err := queries.HoldUser(ctx, tx, in.UserID)
		if err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		row.TenantID, row.Details = string(user.TenantID), map[string]any{"reason": in.Body.Reason, "from": user.Status, "to": queries.UserActive}
		changed, err := queries.SetUserStatus(ctx, tx, in.UserID, []string{queries.UserPending}, queries.UserActive, in.Body.Reason)
		if err == nil && !changed {
			return fault.Newf(fault.UserStateConflict, "The user is %s.", user.Status).With(map[string]any{"status": user.Status})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.user(ctx, in.UserID)
}

func renderUser(row queries.User) userBody {
	return userBody{
		ID: row.ID, TenantID: row.TenantID, Username: row.Username, Kind: row.Kind, Status: row.Status, StatusReason: row.StatusReason,
		StatusAt: maybe(row.StatusAt), CreatedAt: moment(row.CreatedAt),
	}
}
