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
// signs in while the workflow engine is away gets it at a later request of the first day, and whoever had theirs before they were
// erased gets no other one.
func (s *server) welcome(ctx context.Context, who identity.Principal, issuer, subject string, madeNow bool) {
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
	mine := s.derive("opening credit", issuer, subject)
	account, err := queries.ClaimOpeningCredit(ctx, s.config.Pool, mine[:], who.AccountID)
	if err == nil && account != who.AccountID {
		s.config.Log.InfoContext(ctx, "whoever had an opening credit gets no other one", "account_id", string(who.AccountID), "first_account_id", string(account))
		return
	}
	if err == nil {
		err = s.postOpeningCredit(ctx, who.AccountID, amount, madeNow)
	}
	if err != nil {
		s.config.Log.WarnContext(ctx, "the opening credit is not posted yet", "account_id", string(who.AccountID), "error", err.Error())
	}
}

// postOpeningCredit waits for the credit of an account that was made now, so that its person sees it at once.
func (s *server) postOpeningCredit(ctx context.Context, account id.Account, amount money.Micros, wait bool) error {
	run, err := s.startAdjustment(ctx, workflows.AdjustmentInput{
		AdjustmentID: deriveID[id.Adjustment](s, "opening", string(account)), AccountID: account, Currency: s.config.Currency,
		AmountMicros: amount, Opening: true, Reason: "opening credit", Actor: identity.Platform(), CorrelationID: telemetry.Correlation(ctx),
	})
	if err != nil || !wait {
		return err
	}
	var result workflows.AdjustmentResult
	return run.Get(ctx, &result)
}
