package api

import (
	"context"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type meBody struct {
	User    userBody    `json:"user"`
	Tenant  tenantBody  `json:"tenant"`
	Project projectBody `json:"project"`
	Account accountBody `json:"account"`
	Roles   []string    `json:"roles"`
}

type meOut struct{ Body meBody }

func (s *server) identityOperations() {
	handle(s, "getMe", s.getMe)
	s.userOperations()
}

func (s *server) getMe(ctx context.Context, _ *struct{}) (*meOut, error) {
	who := middleware.Principal(ctx)
	found, err := queries.GetUser(ctx, s.config.Pool, who.TenantID, who.UserID)
	if err != nil {
		return nil, err
	}
	tenant, err := queries.GetTenant(ctx, s.config.Pool, who.TenantID)
	if err != nil {
		return nil, err
	}
	project, err := queries.GetProject(ctx, s.config.Pool, who.TenantID, who.ProjectID)
	if err != nil {
		return nil, err
	}
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, who.TenantID)
	if err != nil {
		return nil, err
	}
	roles := who.Roles
	if roles == nil {
		roles = []string{}
	}
	return &meOut{Body: meBody{
		User: renderUser(found), Tenant: renderTenant(ctx, tenant), Project: renderProject(project),
		Account: accountBody{ID: account.ID, TenantID: who.TenantID, Currency: account.Currency}, Roles: roles,
	}}, nil
}

// welcomeTimeout bounds how long a first sign-in waits for its opening credit.
const welcomeTimeout = 3 * time.Second

// welcome posts the opening credit of a new account, once: the adjustment's id derives from the account. Somebody who
// signs in while the workflow engine is away gets it at a later request of the first day.
func (s *server) welcome(ctx context.Context, who identity.Principal, madeNow bool) {
	minor, err := s.config.Policy.Int(ctx, authored.BillingOpeningCreditMinor)
	if err != nil || minor == 0 {
		return
	}
	amount, err := money.FromMinor(minor)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), welcomeTimeout)
	defer cancel()
	run, err := s.startAdjustment(ctx, workflows.AdjustmentInput{
		AdjustmentID: deriveID[id.Adjustment](s, "opening", string(who.AccountID)), AccountID: who.AccountID, Currency: s.config.Currency,
		AmountMicros: amount, Opening: true, Reason: "opening credit", Actor: identity.Platform(), CorrelationID: telemetry.Correlation(ctx),
	})
	if err == nil && madeNow {
		var result workflows.AdjustmentResult
		err = run.Get(ctx, &result)
	}
	if err != nil {
		s.config.Log.WarnContext(ctx, "the opening credit is not posted yet", "account_id", string(who.AccountID), "error", err.Error())
	}
}
