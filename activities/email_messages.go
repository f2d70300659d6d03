package activities

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	rules "github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// EmailMessages writes to people. Its tools are the database, the sender (nil where an installation sends no mail), where people look further,
// the policy, the clock and the log.
type EmailMessages struct {
	Pool    *pgxpool.Pool
	Sender  *email.Sender
	Console string
	Policy  *policy.Client
	Now     func() time.Time
	Log     *slog.Logger
}

// Bind registers the step of EmailDelivery.
func (e *EmailMessages) Bind(registry worker.ActivityRegistry) {
	workflows.StepAttemptEmail.Bind(registry, e.Attempt)
}

// Attempt hands a mail over once and writes down what came of it. It may be handed over again where the answer to this step, or the server's to
// us, is lost before anything was written; mailboxes tell them apart by the Message-ID, which stays.
func (e *EmailMessages) Attempt(ctx context.Context, in workflows.EmailAttempt) (workflows.EmailStanding, error) {
	message, err := queries.GetEmailMessage(ctx, e.Pool, in.MessageID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.EmailStanding{}, nil
	}
	if err != nil {
		return workflows.EmailStanding{}, err
	}
	if message.State != rules.Pending || message.Attempts >= in.Number {
		return e.standing(message), nil
	}
	if e.Sender == nil {
		return workflows.EmailStanding{}, errors.New("this relay has no SMTP server: is GPUAAS_SMTP_URL missing?")
	}
	values, err := e.Policy.Values(ctx)
	if err != nil {
		return workflows.EmailStanding{}, err
	}
	retry := webhook.Retry{
		Attempts: math.MaxInt64, Initial: values.Seconds(authored.EmailRetryInitialSeconds), Maximum: values.Seconds(authored.EmailRetryMaximumSeconds),
		Window: values.Seconds(authored.EmailRetryWindowSeconds),
	}
	if e.Now().Sub(message.CreatedAt) > retry.Window {
		return e.end(ctx, message, rules.GivenUp, "It is too late to write about it.")
	}
	address, because, err := e.address(ctx, message)
	if err != nil {
		return workflows.EmailStanding{}, err
	}
	if because != "" {
		return e.end(ctx, message, rules.Suppressed, because)
	}
	letter, err := e.write(ctx, message)
	if err != nil {
		return workflows.EmailStanding{}, err
	}
	result := e.Sender.Send(ctx, email.Message{ID: string(message.ID), To: address, SentAt: e.Now(), Letter: letter})
	if ctx.Err() != nil && result.Outcome != email.Accepted {
		return workflows.EmailStanding{}, ctx.Err() // this worker is stopping: that says nothing of the mail
	}
	return e.record(ctx, retry, message, in, result)
}

// address is where a mail goes, read when it goes, or why it goes nowhere.
func (e *EmailMessages) address(ctx context.Context, message queries.EmailMessage) (address, because string, err error) {
	if message.InvitationID != "" {
		return e.invited(ctx, message)
	}
	var about struct {
		UserID id.User `json:"user_id"`
	}
	if err := json.Unmarshal(message.Payload, &about); err != nil {
		return "", "", err
	}
	recipients, err := email.Recipients(ctx, e.Pool, event.Type(message.Kind), message.TenantID, about.UserID)
	if err != nil {
		return "", "", err
	}
	at := slices.IndexFunc(recipients, func(r queries.EmailRecipient) bool { return r.ID == message.UserID })
	if at < 0 {
		return "", "They are not among those who are told of it any more.", nil
	}
	return recipients[at].Email, email.Unwanted(message.Kind, recipients[at]), nil
}

func (e *EmailMessages) invited(ctx context.Context, message queries.EmailMessage) (address, because string, err error) {
	invitation, err := queries.GetInvitation(ctx, e.Pool, message.InvitationID)
	switch {
	case err != nil:
		return "", "", err
	case invitation.AcceptedAt != nil || invitation.RevokedAt != nil || !e.Now().Before(invitation.ExpiresAt):
		return "", "The invitation is not open any more.", nil
	case !rules.Address(invitation.Email):
		return "", "The address is none that a mail could be sent to.", nil
	}
	unwanted, err := queries.EmailUnwanted(ctx, e.Pool, invitation.Email, rules.Invitations)
	if unwanted {
		because = "They want no mail of this category."
	}
	return invitation.Email, because, err
}

// write makes the letter, with the names as they are now.
func (e *EmailMessages) write(ctx context.Context, message queries.EmailMessage) (email.Letter, error) {
	var at struct {
		ProjectID id.Project `json:"project_id"`
	}
	if err := json.Unmarshal(message.Payload, &at); err != nil {
		return email.Letter{}, err
	}
	of := email.Occasion{Kind: message.Kind, Payload: message.Payload, Console: e.Console}
	tenant, err := queries.GetTenant(ctx, e.Pool, message.TenantID)
	if err != nil {
		return email.Letter{}, err
	}
	of.Tenant = tenant.Name
	if at.ProjectID != "" {
		project, err := queries.GetProject(ctx, e.Pool, message.TenantID, at.ProjectID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return email.Letter{}, err
		}
		of.Project = project.Name
	}
	return email.Write(of)
}

// record writes down what came of an attempt, unless that was done before.
func (e *EmailMessages) record(ctx context.Context, retry webhook.Retry, message queries.EmailMessage, in workflows.EmailAttempt, result email.Result) (workflows.EmailStanding, error) {
	// What was handed over is written down also by a worker that is stopping.
	ctx = context.WithoutCancel(ctx)
	standing := workflows.EmailStanding{State: rules.Sent, Code: result.Code}
	var next *time.Time
	switch result.Outcome {
	case email.Accepted:
	case email.Refused:
		standing.State = rules.Refused
	default:
		standing.State = rules.GivenUp
		if pause, again := retry.Next(int64(in.Number), e.Now().Sub(message.CreatedAt), spreadOf(string(message.ID), in.Number)); again {
			at := milliseconds(e.Now().Add(pause))
			standing.State, standing.RetryAfterMs, next = rules.Pending, pause.Milliseconds(), &at
		}
	}
	if result.Outcome != email.Accepted {
		e.Log.WarnContext(ctx, "a mail was not taken", "message_id", string(message.ID), "kind", string(message.Kind), "attempt", in.Number, "state", string(standing.State),
			"code", result.Code, "detail", result.Detail)
	}
	written, err := queries.MoveEmailMessage(ctx, e.Pool, message, in.Number, standing.State, result.Detail, next)
	if err != nil || written {
		return standing, err
	}
	return e.reread(ctx, message.ID)
}

// end ends a message that is not attempted any more.
func (e *EmailMessages) end(ctx context.Context, message queries.EmailMessage, to rules.State, because string) (workflows.EmailStanding, error) {
	ended, err := queries.EndEmailMessage(ctx, e.Pool, message, to, because)
	if err != nil || ended {
		return workflows.EmailStanding{State: to}, err
	}
	return e.reread(ctx, message.ID)
}

func (e *EmailMessages) reread(ctx context.Context, message id.Mail) (workflows.EmailStanding, error) {
	row, err := queries.GetEmailMessage(ctx, e.Pool, message)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.EmailStanding{}, nil
	}
	return e.standing(row), err
}

func (e *EmailMessages) standing(row queries.EmailMessage) workflows.EmailStanding {
	standing := workflows.EmailStanding{State: row.State}
	if row.NextAttemptAt != nil {
		standing.RetryAfterMs = max(0, row.NextAttemptAt.Sub(e.Now()).Milliseconds())
	}
	return standing
}

// spreadOf is a number between 0 and 1 that is another for every thing and attempt.
func spreadOf(thing string, number int) float64 {
	mixed := sha256.Sum256(append([]byte(thing), byte(number)))
	return float64(mixed[0]) / 255
}
