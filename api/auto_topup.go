package api

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// How an automatic top-up stands: why the card is charged when the balance comes near the threshold, or why not.
const (
	topUpOff      = "off"
	topUpArmed    = "armed"
	topUpCharging = "charging"
	topUpWaiting  = "waiting"
	topUpPaused   = "paused"
	topUpCapped   = "capped"
	topUpCardless = "no_card"
)

type autoTopUpBody struct {
	AccountID          id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	Currency           string     `json:"currency" pattern:"^[a-z]{3}$"`
	Enabled            bool       `json:"enabled"`
	Status             string     `json:"status" enum:"off,armed,charging,waiting,paused,capped,no_card" doc:"Why the card is charged when the balance comes near the threshold, or why not."`
	ThresholdMinor     int64      `json:"threshold_minor"`
	AmountMinor        int64      `json:"amount_minor"`
	MonthlyCapMinor    int64      `json:"monthly_cap_minor"`
	ChargedMinor       int64      `json:"charged_minor" doc:"What was charged by itself in this calendar month (UTC), or is being charged."`
	MonthEndsAt        moment     `json:"month_ends_at"`
	Failures           int64      `json:"failures" doc:"How many charges in a row came to nothing."`
	RetryAt            *moment    `json:"retry_at,omitempty" doc:"Before this no other one is made."`
	PausedAt           *moment    `json:"paused_at,omitempty"`
	PausedReason       string     `json:"paused_reason,omitempty" doc:"What the payment provider or a bank said."`
	PaymentID          id.Payment `json:"payment_id,omitempty" pattern:"^pay_[a-z2-7]{26}$" doc:"The charge that is under way."`
	MinThresholdMinor  int64      `json:"minimum_threshold_minor"`
	MaxThresholdMinor  int64      `json:"maximum_threshold_minor"`
	MinAmountMinor     int64      `json:"minimum_amount_minor"`
	MaxAmountMinor     int64      `json:"maximum_amount_minor"`
	MaxMonthlyCapMinor int64      `json:"maximum_monthly_cap_minor"`
}

type (
	autoTopUpOut   struct{ Body autoTopUpBody }
	putAutoTopUpIn struct {
		Where
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Enabled         bool  `json:"enabled"`
			ThresholdMinor  int64 `json:"threshold_minor" minimum:"0" maximum:"100000000000"`
			AmountMinor     int64 `json:"amount_minor" minimum:"1" maximum:"100000000000"`
			MonthlyCapMinor int64 `json:"monthly_cap_minor" minimum:"1" maximum:"100000000000"`
		}
	}
)

func (s *server) getAutoTopUp(ctx context.Context, _ *Where) (*autoTopUpOut, error) {
	tenant := middleware.At(ctx).TenantID
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, tenant)
	if err != nil {
		return nil, orMissing(err, fault.AccountNotFound)
	}
	values, err := s.config.Policy.ForTenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	wish, err := queries.GetAutoTopUp(ctx, s.config.Pool, tenant, account.ID)
	if err != nil {
		return nil, err
	}
	charged, err := queries.ReadTopUpCharged(ctx, s.config.Pool, tenant, account.ID)
	if err != nil {
		return nil, err
	}
	limits := topUpLimitsOf(values)
	body := autoTopUpBody{
		AccountID: account.ID, Currency: account.Currency, Status: topUpOff, ChargedMinor: charged.ChargedMicros.Minor(), MonthEndsAt: moment(charged.MonthEndsAt),
		MinThresholdMinor: limits.leastThreshold, MaxThresholdMinor: limits.mostThreshold, MinAmountMinor: limits.leastAmount,
		MaxAmountMinor: limits.mostAmount, MaxMonthlyCapMinor: limits.mostCap,
	}
	if wish == nil {
		return &autoTopUpOut{Body: body}, nil
	}
	body.Enabled, body.Failures, body.RetryAt, body.PausedAt, body.PausedReason = wish.Enabled, wish.Failures, maybe(wish.RetryAt), maybe(wish.PausedAt), wish.PausedReason
	body.ThresholdMinor, body.AmountMinor, body.MonthlyCapMinor = wish.ThresholdMicros.Minor(), wish.AmountMicros.Minor(), wish.MonthlyCapMicros.Minor()
	flying, err := queries.FindTopUpInFlight(ctx, s.config.Pool, tenant, account.ID)
	if err != nil {
		return nil, err
	}
	if flying != nil {
		body.PaymentID = flying.ID
	}
	card, err := queries.SavedCard(ctx, s.config.Pool, tenant, account.ID)
	body.Status = topUpStatus(*wish, flying != nil, card != nil, charged.ChargedMicros, s.config.Now())
	return &autoTopUpOut{Body: body}, err
}

func topUpStatus(wish queries.AutoTopUp, flying, card bool, charged money.Micros, now time.Time) string {
	switch {
	case flying:
		return topUpCharging
	case !wish.Enabled:
		return topUpOff
	case wish.PausedAt != nil:
		return topUpPaused
	case !card:
		return topUpCardless
	case wish.RetryAt != nil && wish.RetryAt.After(now):
		return topUpWaiting
	case charged+wish.AmountMicros > wish.MonthlyCapMicros:
		return topUpCapped
	default:
		return topUpArmed
	}
}

// topUpLimits are what policy lets a tenant set, in minor units.
type topUpLimits struct{ leastThreshold, mostThreshold, leastAmount, mostAmount, mostCap int64 }

// topUpLimitsOf reads them. A threshold below the low-balance warning would be reached too late.
func topUpLimitsOf(values policy.Values) topUpLimits {
	return topUpLimits{
		leastThreshold: values.Int(authored.BillingLowBalanceThresholdMinor), mostThreshold: values.Int(authored.PaymentsAutoTopupMaximumThresholdMinor),
		leastAmount: values.Int(authored.BillingMinimumDepositMinor), mostAmount: values.Int(authored.BillingMaximumDepositMinor),
		mostCap: values.Int(authored.PaymentsAutoTopupMaximumCapMinor),
	}
}

func (l topUpLimits) refuse(in *putAutoTopUpIn, currency string) error {
	asked := in.Body
	if asked.ThresholdMinor >= l.leastThreshold && asked.ThresholdMinor <= l.mostThreshold && asked.AmountMinor >= l.leastAmount &&
		asked.AmountMinor <= l.mostAmount && asked.MonthlyCapMinor >= asked.AmountMinor && asked.MonthlyCapMinor <= l.mostCap {
		return nil
	}
	return fault.New(fault.AutoTopupOutOfRange, "").With(map[string]any{
		"minimum_threshold_minor": l.leastThreshold, "maximum_threshold_minor": l.mostThreshold, "minimum_amount_minor": l.leastAmount,
		"maximum_amount_minor": l.mostAmount, "maximum_monthly_cap_minor": l.mostCap, "currency": currency,
	})
}

// putAutoTopUp sets it, and ends a pause. Whoever watches the account hears of it by the database.
func (s *server) putAutoTopUp(ctx context.Context, in *putAutoTopUpIn) (*autoTopUpOut, error) {
	who, tenant := middleware.Principal(ctx), middleware.At(ctx).TenantID
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, tenant)
	if err != nil {
		return nil, orMissing(err, fault.AccountNotFound)
	}
	threshold, noThreshold := money.FromMinor(in.Body.ThresholdMinor)
	amount, noAmount := money.FromMinor(in.Body.AmountMinor)
	most, noCap := money.FromMinor(in.Body.MonthlyCapMinor)
	if err := errors.Join(noThreshold, noAmount, noCap); err != nil {
		return nil, fault.Wrap(err, fault.AutoTopupOutOfRange, "")
	}
	wish := queries.AutoTopUp{
		AccountID: account.ID, TenantID: tenant, UserID: who.UserID, Enabled: in.Body.Enabled, ThresholdMicros: threshold, AmountMicros: amount, MonthlyCapMicros: most,
	}
	audit := &queries.Audit{TenantID: string(tenant), Action: "auto_topup.set", TargetType: "account", TargetID: string(account.ID), Details: map[string]any{
		"enabled": wish.Enabled, "threshold_micros": wish.ThresholdMicros, "amount_micros": wish.AmountMicros, "monthly_cap_micros": wish.MonthlyCapMicros,
	}}
	err = s.change(ctx, audit, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.LockAccount(ctx, tx, tenant, account.ID); err != nil {
			return err
		}
		values, err := policy.ReadForTenant(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if err := topUpLimitsOf(values).refuse(in, account.Currency); err != nil {
			return err
		}
		card, err := queries.SavedCard(ctx, tx, tenant, account.ID)
		if err != nil {
			return err
		}
		if wish.Enabled && card == nil {
			return fault.New(fault.SavedCardMissing, "")
		}
		return queries.PutAutoTopUp(ctx, tx, wish)
	})
	if err != nil {
		return nil, err
	}
	return s.getAutoTopUp(ctx, nil)
}
