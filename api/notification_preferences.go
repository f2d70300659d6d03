package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type (
	notificationCategoryBody struct {
		Category  email.Category `json:"category" enum:"releases,balance,budgets,payments,receipts,allocations,webhooks,invitations"`
		Email     bool           `json:"email" doc:"Whether you are written to about it."`
		Essential bool           `json:"essential" doc:"Whether it cannot be switched off."`
		Meaning   string         `json:"meaning" doc:"What it is about."`
	}
	notificationPreferencesOut struct {
		Body struct {
			EmailAddress  string                     `json:"email_address,omitempty" doc:"The address that your identity provider named last; absent while it named none."`
			EmailVerified bool                       `json:"email_verified" doc:"Whether it calls the address verified. Nothing is sent to one that it does not."`
			Categories    []notificationCategoryBody `json:"categories"`
		}
	}
	setNotificationPreferencesIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			EmailOff []email.Category `json:"email_off" maxItems:"100" enum:"releases,balance,budgets,payments,receipts,allocations,webhooks,invitations" doc:"The categories that you want no mail of."`
		}
	}
)

func (s *server) getNotificationPreferences(ctx context.Context, _ *struct{}) (*notificationPreferencesOut, error) {
	who := middleware.Principal(ctx).UserID
	address, err := queries.EmailAddressOf(ctx, s.config.Pool, who)
	if err != nil {
		return nil, err
	}
	off, err := queries.EmailsOff(ctx, s.config.Pool, who)
	if err != nil {
		return nil, err
	}
	out := &notificationPreferencesOut{}
	out.Body.EmailAddress, out.Body.EmailVerified = address.Email, address.EmailVerified
	for _, category := range email.Categories() {
		out.Body.Categories = append(out.Body.Categories, notificationCategoryBody{
			Category: category, Email: category.Essential() || !off[category], Essential: category.Essential(), Meaning: category.Meaning(),
		})
	}
	return out, nil
}

func (s *server) setNotificationPreferences(ctx context.Context, in *setNotificationPreferencesIn) (*notificationPreferencesOut, error) {
	for _, category := range in.Body.EmailOff {
		if category.Essential() {
			return nil, fault.New(fault.EssentialEmail, "")
		}
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		return queries.SetEmailsOff(ctx, tx, middleware.Principal(ctx).UserID, in.Body.EmailOff)
	})
	if err != nil {
		return nil, err
	}
	return s.getNotificationPreferences(ctx, nil)
}
