package email

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/consumer"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Starter begins the workflow of every message that has none.
type Starter = consumer.Starter[queries.DueEmail]

// NewStarter makes one.
func NewStarter(pool *pgxpool.Pool, log *slog.Logger) *Starter {
	return consumer.NewStarter(consumer.Due[queries.DueEmail]{
		What: "mails",
		Find: func(ctx context.Context, limit int) ([]queries.DueEmail, error) {
			return queries.DueEmails(ctx, pool, limit)
		},
		Begun: func(ctx context.Context, due queries.DueEmail) error { return queries.NoteEmailBegun(ctx, pool, due) },
	}, log)
}

// NewConsumer makes the consumer that writes a message for each person who is written to about an event, in the transaction of its inbox key,
// and wakes the starter.
func NewConsumer(pool *pgxpool.Pool, bus *nats.Client, policies *policy.Client, starter *Starter, log *slog.Logger) *consumer.Consumer {
	return consumer.New(pool, bus, consumer.Config{
		Name: nats.Emails,
		Apply: func(ctx context.Context, tx pgx.Tx, message consumer.Message) error {
			return address(ctx, tx, policies, message)
		},
		Applied: func(context.Context, []consumer.Message) { starter.Wake() },
		Attempts: func(ctx context.Context) (int64, error) {
			return policies.Int(ctx, authored.EventsDeliveryAttempts)
		},
	}, log)
}

// place is what a payload says about whom it concerns.
type place struct {
	TenantID  id.Tenant  `json:"tenant_id"`
	ProjectID id.Project `json:"project_id"`
	UserID    id.User    `json:"user_id"`
}

// address writes a message for everybody who is written to. Of what is older than mails are attempted nobody is told any more.
func address(ctx context.Context, tx pgx.Tx, policies *policy.Client, message consumer.Message) error {
	if _, addressees := email.Of(message.EventType); addressees == email.Nobody {
		return nil
	}
	muted, err := notify.Muted(ctx, policies, message.EventType)
	if err != nil || muted {
		return err
	}
	window, err := policies.Int(ctx, authored.EmailRetryWindowSeconds)
	if err != nil || time.Since(message.OccurredAt) > time.Duration(window)*time.Second {
		return err
	}
	var at place
	if err := json.Unmarshal(message.Payload, &at); err != nil {
		return fmt.Errorf("%w: its payload cannot be read: %w", consumer.ErrPoison, err)
	}
	if _, err := id.Parse[id.Tenant](string(at.TenantID)); err != nil {
		return fmt.Errorf("%w: its payload names no tenant", consumer.ErrPoison)
	}
	kind := email.Kind(message.EventType)
	if _, err := Write(Occasion{Kind: kind, Payload: message.Payload}); err != nil {
		return fmt.Errorf("%w: no letter can be written of it: %w", consumer.ErrPoison, err)
	}
	recipients, err := Recipients(ctx, tx, message.EventType, at.TenantID, at.UserID)
	if err != nil {
		return err
	}
	for _, recipient := range recipients {
		row := queries.EmailMessage{TenantID: at.TenantID, EventID: message.EventID, Kind: kind, UserID: recipient.ID, State: email.Pending, Payload: message.Payload}
		if because := Unwanted(kind, recipient); because != "" {
			row.State, row.Detail, row.Payload = email.Suppressed, because, nil
		}
		if _, err := queries.InsertEmailMessage(ctx, tx, row); err != nil {
			return err
		}
	}
	return nil
}

// Recipients are who is written to about an event of a tenant that is about something of a user's, or, where user is empty, of nobody's.
func Recipients(ctx context.Context, db queries.DB, kind event.Type, tenant id.Tenant, user id.User) ([]queries.EmailRecipient, error) {
	category, addressees := email.Of(kind)
	if addressees == email.AllocationOwner {
		owner, err := queries.EmailOwner(ctx, db, tenant, user, category)
		if !errors.Is(err, pgx.ErrNoRows) {
			return []queries.EmailRecipient{owner}, err
		}
	}
	return queries.EmailRecipients(ctx, db, tenant, addressees.Roles(), category)
}

// Unwanted says why somebody is not written to, empty where they are.
func Unwanted(kind email.Kind, recipient queries.EmailRecipient) string {
	category, _ := email.Of(event.Type(kind))
	switch {
	case recipient.Email == "":
		return "They have no address."
	case !recipient.EmailVerified:
		return "Their address is not verified."
	case recipient.Off && !category.Essential():
		return "They want no mail of this category."
	default:
		return ""
	}
}
