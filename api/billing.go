package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type balanceBody struct {
	AccountID         id.Account `json:"account_id"`
	Currency          string     `json:"currency"`
	BalanceMicros     int64      `json:"balance_micros" doc:"The sum of the ledger; may be below zero."`
	BalanceMinor      int64      `json:"balance_minor" doc:"The same in whole minor units, rounded down."`
	AccruedMicros     int64      `json:"accrued_micros" doc:"Metered and not yet in the ledger."`
	AvailableMicros   int64      `json:"available_micros" doc:"Balance less what has accrued."`
	RateMicrosPerHour int64      `json:"rate_micros_per_hour" doc:"What all allocations that are not terminal cost together."`
	AsOf              moment     `json:"as_of"`
}

type balanceOut struct{ Body balanceBody }

type ledgerEntryBody struct {
	ID           int64   `json:"id"`
	Kind         string  `json:"kind" enum:"usage,usage_credit,outage_credit,suspension_credit,adjustment_credit,adjustment_debit,opening_credit,closing_refund,deposit,refund,refund_settled,refund_reversed,dispute_withdrawn,dispute_reinstated,dispute_lost"`
	AmountMicros int64   `json:"amount_micros" doc:"Signed as the account sees it: positive is money in."`
	Currency     string  `json:"currency"`
	AllocationID string  `json:"allocation_id,omitempty"`
	PeriodStart  *moment `json:"period_start,omitempty"`
	PeriodEnd    *moment `json:"period_end,omitempty"`
	ReversesID   int64   `json:"reverses_id,omitempty" doc:"The entry that this one corrects."`
	CreatedAt    moment  `json:"created_at"`
}

type ledgerFilter struct {
	Paging
	Where
	AllocationID id.Allocation `query:"allocation_id" pattern:"^alloc_[a-z2-7]{26}$"`
	Since        time.Time     `query:"since" doc:"Only entries that were posted at this instant or later."`
	Until        time.Time     `query:"until" doc:"Only entries that were posted before this instant."`
}

type ledgerListOut struct{ Body list[ledgerEntryBody] }

type accountBody struct {
	ID       id.Account `json:"id" pattern:"^acct_[a-z2-7]{26}$"`
	TenantID id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	Currency string     `json:"currency" pattern:"^[a-z]{3}$"`
}

type accountListOut struct{ Body list[accountBody] }

type AccountPath struct {
	AccountID id.Account `path:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
}

type createAdjustmentIn struct {
	AccountPath
	IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
	Body           struct {
		AmountMinor int64  `json:"amount_minor" minimum:"-100000000000" maximum:"100000000000"`
		Currency    string `json:"currency" pattern:"^[a-z]{3}$"`
		Reason      string `json:"reason" minLength:"1" maxLength:"500"`
	}
}

type adjustmentBody struct {
	ID            id.Adjustment `json:"id" pattern:"^adj_[a-z2-7]{26}$"`
	AccountID     id.Account    `json:"account_id"`
	AmountMinor   int64         `json:"amount_minor"`
	AmountMicros  int64         `json:"amount_micros"`
	Currency      string        `json:"currency"`
	Reason        string        `json:"reason"`
	LedgerEntryID int64         `json:"ledger_entry_id"`
	BalanceMicros int64         `json:"balance_micros" doc:"The account's balance after it."`
}

type adjustmentOut struct{ Body adjustmentBody }

func (s *server) billingOperations() {
	handle(s, "getBalance", s.getBalance)
	handle(s, "getRunway", s.getRunway)
	handle(s, "listLedgerEntries", s.listLedgerEntries)
	handle(s, "listAccounts", s.listAccounts)
	handle(s, "getAccountBalance", s.getAccountBalance)
	handle(s, "createAdjustment", s.createAdjustment)
}

func (s *server) getBalance(ctx context.Context, _ *Where) (*balanceOut, error) {
	account, err := s.accountAt(ctx)
	if err != nil {
		return nil, err
	}
	return s.balance(ctx, middleware.At(ctx).TenantID, account)
}

// accountAt is the account of the tenant that the request is about.
func (s *server) accountAt(ctx context.Context) (id.Account, error) {
	at := middleware.At(ctx)
	if at.AccountID != "" {
		return at.AccountID, nil
	}
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, at.TenantID) // an operator looks into a tenant that is not theirs
	return account.ID, err
}

func (s *server) getAccountBalance(ctx context.Context, in *AccountPath) (*balanceOut, error) {
	account, err := s.account(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return s.balance(ctx, account.TenantID, account.ID)
}

func (s *server) account(ctx context.Context, accountID id.Account) (queries.TenantAccount, error) {
	account, err := queries.GetAccount(ctx, s.config.Pool, accountID)
	if errors.Is(err, pgx.ErrNoRows) {
		return account, fault.New(fault.AccountNotFound, "")
	}
	return account, err
}

// balance reads the ledger and, beside it, what has accrued since.
func (s *server) balance(ctx context.Context, tenant id.Tenant, accountID id.Account) (*balanceOut, error) {
	meters, err := queries.RunningMeters(ctx, s.config.Pool, tenant, accountID)
	if err != nil {
		return nil, err
	}
	ids := make([]id.Allocation, len(meters))
	for i, meter := range meters {
		ids[i] = meter.AllocationID
	}
	posted, err := queries.LastPostedEnds(ctx, s.config.Pool, ids)
	if err != nil {
		return nil, err
	}
	balance, currency, err := queries.TenantBalance(ctx, s.config.Pool, tenant, accountID)
	if err != nil {
		return nil, err
	}
	running, err := queries.RunningByAccount(ctx, s.config.Pool, tenant, accountID)
	if err != nil {
		return nil, err
	}
	now := s.config.Now().UTC()
	accrued, err := accruedOf(meters, posted, now)
	if err != nil {
		return nil, err
	}
	var rate money.Micros
	for _, one := range running {
		rate += one.RateMicrosPerHour
	}
	return &balanceOut{Body: balanceBody{
		AccountID: accountID, Currency: currency, BalanceMicros: int64(balance), BalanceMinor: balance.Minor(), AccruedMicros: int64(accrued),
		AvailableMicros: int64(balance - accrued), RateMicrosPerHour: int64(rate), AsOf: moment(now),
	}}, nil
}

func (s *server) listLedgerEntries(ctx context.Context, in *ledgerFilter) (*ledgerListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	account, err := s.accountAt(ctx)
	if err != nil {
		return nil, err
	}
	page := queries.LedgerPage{TenantID: middleware.At(ctx).TenantID, AccountID: account, AllocationID: in.AllocationID, Limit: in.fetch()}
	if from.ID != "" {
		if page.BeforeID, err = strconv.ParseInt(from.ID, 10, 64); err != nil {
			return nil, invalid("query.cursor", "the cursor is not one that a page of the ledger answered")
		}
	}
	if page.Since, page.Until = in.Since, in.Until; !in.Since.IsZero() || !in.Until.IsZero() {
		if in.Until.IsZero() {
			in.Until = s.config.Now().AddDate(0, 0, 1)
		}
		within, err := queries.EntriesWithin(ctx, s.config.Pool, in.Since, in.Until)
		if err != nil {
			return nil, err
		}
		page.Narrow(within)
	}
	rows, err := queries.LedgerEntries(ctx, s.config.Pool, page)
	if err != nil {
		return nil, err
	}
	return &ledgerListOut{Body: paged(in.Paging, rows,
		func(row queries.LedgerEntry) after { return after{row.CreatedAt, strconv.FormatInt(row.ID, 10)} }, renderEntry)}, nil
}

func renderEntry(row queries.LedgerEntry) ledgerEntryBody {
	body := ledgerEntryBody{
		ID: row.ID, Kind: row.Kind, AmountMicros: int64(row.AmountMicros), Currency: row.Currency, AllocationID: string(row.AllocationID),
		PeriodStart: maybe(row.PeriodStart), PeriodEnd: maybe(row.PeriodEnd), CreatedAt: moment(row.CreatedAt),
	}
	if row.ReversesID != nil {
		body.ReversesID = *row.ReversesID
	}
	return body
}

func (s *server) listAccounts(ctx context.Context, in *identityFilter) (*accountListOut, error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadAccounts(ctx, s.config.Pool, page)
	if err != nil {
		return nil, err
	}
	return &accountListOut{Body: paged(in.Paging, rows,
		func(row queries.AccountRow) after { return after{row.CreatedAt, string(row.ID)} },
		func(row queries.AccountRow) accountBody {
			return accountBody{ID: row.ID, TenantID: row.TenantID, Currency: row.Currency}
		})}, nil
}

// adjustmentPatience is how long a request waits for its adjustment to be posted.
const adjustmentPatience = 15 * time.Second

// createAdjustment starts the adjustment's workflow, whose id derives from the key, and waits for its result.
func (s *server) createAdjustment(ctx context.Context, in *createAdjustmentIn) (*adjustmentOut, error) {
	who := middleware.Principal(ctx)
	account, err := s.account(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	if in.Body.Currency != account.Currency {
		return nil, fault.Newf(fault.CurrencyMismatch, "The account is kept in %s.", account.Currency).With(map[string]any{"currency": account.Currency})
	}
	amount, err := money.FromMinor(in.Body.AmountMinor)
	if err != nil || amount == 0 {
		return nil, fault.New(fault.AmountOutOfRange, "")
	}
	ctx, cancel := context.WithTimeout(ctx, adjustmentPatience)
	defer cancel()
	adjustmentID := deriveID[id.Adjustment](s, string(who.TenantID), string(who.UserID), "createAdjustment", in.IdempotencyKey)
	run, err := s.startAdjustment(ctx, workflows.AdjustmentInput{
		AdjustmentID: adjustmentID, AccountID: account.ID, Currency: account.Currency, AmountMicros: amount, Reason: in.Body.Reason,
		Actor: who.Actor(), CorrelationID: telemetry.Correlation(ctx),
	})
	if err != nil {
		return nil, err
	}
	var result workflows.AdjustmentResult
	if err := run.Get(ctx, &result); err != nil {
		return nil, temporal.FromError(err)
	}
	if result.Fault != nil {
		return nil, fromStep(result.Fault)
	}
	return &adjustmentOut{Body: adjustmentBody{
		ID: adjustmentID, AccountID: account.ID, AmountMinor: in.Body.AmountMinor, AmountMicros: int64(amount), Currency: account.Currency,
		Reason: in.Body.Reason, LedgerEntryID: result.EntryID, BalanceMicros: int64(result.BalanceMicros),
	}}, nil
}

// startAdjustment starts the workflow or finds the one that was started under this id, running or closed.
func (s *server) startAdjustment(ctx context.Context, input workflows.AdjustmentInput) (client.WorkflowRun, error) {
	cluster, err := s.temporal()
	if err != nil {
		return nil, err
	}
	run, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.AdjustmentWorkflowID(input.AdjustmentID), TaskQueue: workflows.AllocationsQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:            "Adjust " + string(input.AccountID),
		StaticDetails:            input.Reason,
	}, workflows.AdjustmentType, input)
	if err != nil {
		return nil, temporal.FromError(err)
	}
	return run, nil
}
