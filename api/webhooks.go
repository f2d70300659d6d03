package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// webhookEventType is an event that an endpoint can ask for.
type webhookEventType event.Type

// Schema lists them.
func (webhookEventType) Schema(huma.Registry) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for _, kind := range rules.EventTypes() {
		schema.Enum = append(schema.Enum, string(kind))
	}
	return schema
}

type webhookBody struct {
	ID                      id.Webhook         `json:"id" pattern:"^hook_[a-z2-7]{26}$"`
	TenantID                id.Tenant          `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	URL                     string             `json:"url"`
	Description             string             `json:"description"`
	EventTypes              []webhookEventType `json:"event_types" doc:"Which events are told; empty: all, those to come among them."`
	Enabled                 bool               `json:"enabled"`
	DisabledAt              *moment            `json:"disabled_at,omitempty"`
	DisabledBecause         string             `json:"disabled_because,omitempty" enum:"asked,failing,gone" doc:"asked: somebody did; failing: attempts failed for too long; gone: the endpoint answered 410."`
	Failures                int64              `json:"failures" doc:"Attempts that failed since the last one that did not."`
	FailingSince            *moment            `json:"failing_since,omitempty"`
	PreviousSecretExpiresAt *moment            `json:"previous_secret_expires_at,omitempty" doc:"Until when the secret before this one signs too."`
	CreatedBy               id.User            `json:"created_by" pattern:"^user_[a-z2-7]{26}$"`
	CreatedAt               moment             `json:"created_at"`
	UpdatedAt               moment             `json:"updated_at"`
}

type (
	WebhookPath struct {
		WebhookID id.Webhook `path:"webhook_id" pattern:"^hook_[a-z2-7]{26}$"`
	}
	createWebhookIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			TenantID    id.Tenant          `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Your own tenant when absent."`
			URL         string             `json:"url" minLength:"1" maxLength:"2000" doc:"https only, unless policy allows http."`
			Description string             `json:"description,omitempty" maxLength:"200"`
			EventTypes  []webhookEventType `json:"event_types,omitempty" maxItems:"100" doc:"Which events are told; absent or empty: all, those to come among them."`
		}
	}
	updateWebhookIn struct {
		WebhookPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			URL         *string             `json:"url,omitempty" minLength:"1" maxLength:"2000"`
			Description *string             `json:"description,omitempty" maxLength:"200"`
			EventTypes  *[]webhookEventType `json:"event_types,omitempty" maxItems:"100" doc:"Which events are told; empty: all, those to come among them."`
			Enabled     *bool               `json:"enabled,omitempty"`
		}
	}
	rotateWebhookSecretIn struct {
		WebhookPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			OverlapSeconds *int64 `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"For how long the secret before signs too; policy's value when absent."`
		}
	}
	keyedWebhookIn struct {
		WebhookPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	webhookListIn struct {
		Paging
		Where
	}
	oneWebhookOut     struct{ Body webhookBody }
	webhookListOut    struct{ Body list[webhookBody] }
	createdWebhookOut struct {
		Body struct {
			Webhook webhookBody `json:"webhook"`
			Secret  string      `json:"secret" doc:"Shown once; what Standard Webhooks libraries take as it is."`
		}
	}
)

func (s *server) webhookOperations() {
	handle(s, "createWebhook", s.createWebhook)
	handle(s, "listWebhooks", s.listWebhooks)
	handle(s, "getWebhook", s.getWebhook)
	handle(s, "updateWebhook", s.updateWebhook)
	handle(s, "deleteWebhook", s.deleteWebhook)
	handle(s, "rotateWebhookSecret", s.rotateWebhookSecret)
	handle(s, "testWebhook", s.testWebhook)
	handle(s, "listWebhookDeliveries", s.listWebhookDeliveries)
	handle(s, "getWebhookDelivery", s.getWebhookDelivery)
	handle(s, "redeliverWebhook", s.redeliverWebhook)
}

// createWebhook makes an endpoint. Its answer holds its secret and is never kept for replay: with an idempotency key the secret and the
// endpoint's id derive from the key, so that a repeat finds its row.
func (s *server) createWebhook(ctx context.Context, in *createWebhookIn) (*createdWebhookOut, error) {
	if s.config.WebhookKeys == nil {
		return nil, fault.New(fault.WebhooksDisabled, "")
	}
	at, who := middleware.At(ctx), middleware.Principal(ctx)
	wanted := queries.WebhookEndpoint{
		ID: id.New[id.Webhook](random16()), TenantID: at.TenantID, URL: in.Body.URL, Description: in.Body.Description,
		EventTypes: eventTypesOf(in.Body.EventTypes), CreatedBy: who.UserID,
	}
	secret := random32()
	if in.IdempotencyKey != "" {
		secret = s.derive("webhook-secret", string(at.TenantID), string(who.UserID), in.IdempotencyKey)
		wanted.ID = deriveID[id.Webhook](s, "webhook", string(at.TenantID), string(who.UserID), in.IdempotencyKey)
	}
	if err := s.checkWebhook(ctx, wanted); err != nil {
		return nil, err
	}
	made, err := queries.GetWebhookEndpoint(ctx, s.config.Pool, wanted.ID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if err := s.makeWebhook(ctx, wanted, secret); err != nil {
			return nil, err
		}
		made, err = queries.GetWebhookEndpoint(ctx, s.config.Pool, wanted.ID)
	case err == nil && !asWanted(made, wanted, secret):
		err = fault.New(fault.IdempotencyConflict, "")
	case err == nil:
		middleware.MarkReplayed(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.withSecret(made, secret), nil
}

// asWanted says whether an endpoint is what its key asked for the first time, however it was changed since.
func asWanted(made, wanted queries.WebhookEndpoint, secret [32]byte) bool {
	hash := sha256.Sum256(secret[:])
	return made.DeletedAt == nil && slices.Equal(made.SecretSHA256, hash[:]) && made.URL == wanted.URL && made.Description == wanted.Description &&
		slices.Equal(made.EventTypes, wanted.EventTypes)
}

func (s *server) withSecret(made queries.WebhookEndpoint, secret [32]byte) *createdWebhookOut {
	out := &createdWebhookOut{}
	out.Body.Webhook, out.Body.Secret = s.renderWebhook(made), webhook.SecretText(secret)
	return out
}

func eventTypesOf(asked []webhookEventType) []event.Type {
	types := make([]event.Type, 0, len(asked))
	for _, kind := range asked {
		types = append(types, event.Type(kind))
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// checkWebhook refuses an address that the sender would refuse, as far as that is known without looking it up.
func (s *server) checkWebhook(ctx context.Context, wanted queries.WebhookEndpoint) error {
	allowHTTP, err := s.config.Policy.Bool(ctx, authored.WebhooksAllowHTTP)
	if err != nil {
		return err
	}
	problem := rules.CheckURL(wanted.URL, allowHTTP)
	if problem == nil {
		if address, err := url.Parse(wanted.URL); err == nil {
			if literal, err := netip.ParseAddr(address.Hostname()); err == nil {
				problem = s.config.WebhookGuard.Check(literal)
			}
		}
	}
	if problem != nil {
		return fault.Newf(fault.WebhookURLRefused, "Webhooks are not sent to this address: %s.", problem).With(map[string]any{"reason": problem.Error()})
	}
	return nil
}

func (s *server) makeWebhook(ctx context.Context, wanted queries.WebhookEndpoint, secret [32]byte) error {
	most, err := s.config.Policy.ForTenant(ctx, wanted.TenantID)
	if err != nil {
		return err
	}
	limit := most.Int(authored.WebhooksMaximumEndpoints)
	hash := sha256.Sum256(secret[:])
	wanted.Secret, wanted.SecretSHA256 = s.config.WebhookKeys.Seal(wanted.ID, secret), hash[:]
	return s.change(ctx, webhookAudit(wanted, "webhook.create"), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldTenant(ctx, tx, wanted.TenantID); err != nil {
			return orMissing(err, fault.TenantNotFound)
		}
		standing, err := queries.CountWebhookEndpoints(ctx, tx, wanted.TenantID)
		if err != nil {
			return err
		}
		if standing >= limit {
			return fault.New(fault.WebhookLimitReached, "").With(map[string]any{"limit": limit})
		}
		inserted, err := queries.InsertWebhookEndpoint(ctx, tx, wanted)
		if err == nil && !inserted {
			err = fault.New(fault.IdempotencyInFlight, "") // of two with one key at once
		}
		return err
	})
}

func webhookAudit(row queries.WebhookEndpoint, action string) *queries.Audit {
	return &queries.Audit{
		TenantID: string(row.TenantID), Action: action, TargetType: "webhook", TargetID: string(row.ID), Details: map[string]any{"event_types": row.EventTypes},
	}
}

func (s *server) listWebhooks(ctx context.Context, in *webhookListIn) (*webhookListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.WebhookEndpointsOf(ctx, s.config.Pool, middleware.At(ctx).TenantID, page)
	if err != nil {
		return nil, err
	}
	return &webhookListOut{Body: paged(in.Paging, rows, func(row queries.WebhookEndpoint) after { return after{row.CreatedAt, string(row.ID)} }, s.renderWebhook)}, nil
}

func (s *server) getWebhook(ctx context.Context, _ *WebhookPath) (*oneWebhookOut, error) {
	row, err := theWebhook(ctx)
	if err != nil {
		return nil, err
	}
	return &oneWebhookOut{Body: s.renderWebhook(row)}, nil
}

// theWebhook is the row that the guard read to find out who may ask.
func theWebhook(ctx context.Context) (queries.WebhookEndpoint, error) {
	row, found := middleware.At(ctx).Object.(queries.WebhookEndpoint)
	if !found || row.DeletedAt != nil {
		return row, fault.New(fault.WebhookNotFound, "")
	}
	return row, nil
}

// updateWebhook changes what is named. Enabling begins anew: what failed before is not counted any more.
func (s *server) updateWebhook(ctx context.Context, in *updateWebhookIn) (*oneWebhookOut, error) {
	row, err := theWebhook(ctx)
	if err != nil {
		return nil, err
	}
	if in.Body.URL != nil {
		if err := s.checkWebhook(ctx, queries.WebhookEndpoint{URL: *in.Body.URL}); err != nil {
			return nil, err
		}
	}
	audit := webhookAudit(row, "webhook.update")
	err = s.change(ctx, audit, func(ctx context.Context, tx pgx.Tx) error {
		held, err := queries.HoldWebhookEndpoint(ctx, tx, row.TenantID, row.ID)
		if err != nil {
			return orMissing(err, fault.WebhookNotFound)
		}
		s.apply(in, &held)
		audit.Details = map[string]any{"event_types": held.EventTypes, "enabled": held.DisabledAt == nil, "url_changed": in.Body.URL != nil}
		return queries.UpdateWebhookEndpoint(ctx, tx, held)
	})
	if err != nil {
		return nil, err
	}
	if row, err = queries.GetWebhookEndpoint(ctx, s.config.Pool, row.ID); err != nil {
		return nil, err
	}
	return &oneWebhookOut{Body: s.renderWebhook(row)}, nil
}

func (s *server) apply(in *updateWebhookIn, row *queries.WebhookEndpoint) {
	if in.Body.URL != nil {
		row.URL = *in.Body.URL
	}
	if in.Body.Description != nil {
		row.Description = *in.Body.Description
	}
	if in.Body.EventTypes != nil {
		row.EventTypes = eventTypesOf(*in.Body.EventTypes)
	}
	switch {
	case in.Body.Enabled == nil:
	case *in.Body.Enabled:
		row.DisabledAt, row.DisabledBecause, row.Failures, row.FailingSince = nil, "", 0, nil
	case row.DisabledAt == nil:
		now := s.now()
		row.DisabledAt, row.DisabledBecause = &now, rules.Asked
	}
}

// deleteWebhook removes an endpoint with everything that was to be told to it. One that is gone already is gone.
func (s *server) deleteWebhook(ctx context.Context, _ *keyedWebhookIn) (*struct{}, error) {
	row, found := middleware.At(ctx).Object.(queries.WebhookEndpoint)
	if !found {
		return nil, fault.New(fault.WebhookNotFound, "")
	}
	return nil, s.change(ctx, webhookAudit(row, "webhook.delete"), func(ctx context.Context, tx pgx.Tx) error {
		return queries.DeleteWebhookEndpoint(ctx, tx, row)
	})
}

// rotateWebhookSecret makes a new secret; the one before it signs beside it for an overlap, in which whoever verifies changes over.
func (s *server) rotateWebhookSecret(ctx context.Context, in *rotateWebhookSecretIn) (*createdWebhookOut, error) {
	if s.config.WebhookKeys == nil {
		return nil, fault.New(fault.WebhooksDisabled, "")
	}
	row, err := theWebhook(ctx)
	if err != nil {
		return nil, err
	}
	overlap, err := s.config.Policy.Int(ctx, authored.WebhooksSecretOverlapSeconds)
	if err != nil {
		return nil, err
	}
	if in.Body.OverlapSeconds != nil {
		overlap = *in.Body.OverlapSeconds
	}
	secret, who := random32(), middleware.Principal(ctx)
	audit := webhookAudit(row, "webhook.rotate_secret")
	audit.Details = map[string]any{"overlap_seconds": overlap}
	audit.Actor, audit.CorrelationID, audit.RequestID = who.Actor(), telemetry.Correlation(ctx), middleware.RequestOf(ctx).ID
	if in.IdempotencyKey != "" {
		secret = s.derive("webhook-rotation", string(row.ID), string(who.UserID), in.IdempotencyKey)
		request := s.derive("webhook-rotation-request", string(row.ID), string(who.UserID), in.IdempotencyKey)
		audit.RequestID = hex.EncodeToString(request[:])
	}
	replayed, err := s.rotate(ctx, row, secret, time.Duration(overlap)*time.Second, *audit)
	if err != nil {
		return nil, err
	}
	if replayed {
		middleware.MarkReplayed(ctx)
	}
	if row, err = queries.GetWebhookEndpoint(ctx, s.config.Pool, row.ID); err != nil {
		return nil, err
	}
	return s.withSecret(row, secret), nil
}

// rotate puts the secret in its place once for its request. A request that comes again after another rotation brings nothing back.
func (s *server) rotate(ctx context.Context, row queries.WebhookEndpoint, secret [32]byte, overlap time.Duration, audit queries.Audit) (replayed bool, err error) {
	hash := sha256.Sum256(secret[:])
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		held, err := queries.HoldWebhookEndpoint(ctx, tx, row.TenantID, row.ID)
		if err != nil {
			return orMissing(err, fault.WebhookNotFound)
		}
		_, err = queries.AuditOfRequest(ctx, tx, audit.RequestID)
		switch {
		case err == nil && slices.Equal(held.SecretSHA256, hash[:]):
			replayed = true
			return nil
		case err == nil:
			return fault.New(fault.IdempotencyConflict, "The secret that this X-Idempotency-Key made was replaced by another.")
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		if err := queries.RotateWebhookSecret(ctx, tx, held, s.config.WebhookKeys.Seal(held.ID, secret), hash, s.now().Add(overlap)); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, audit)
	})
	return replayed, err
}

func (s *server) renderWebhook(row queries.WebhookEndpoint) webhookBody {
	body := webhookBody{
		ID: row.ID, TenantID: row.TenantID, URL: row.URL, Description: row.Description, EventTypes: make([]webhookEventType, len(row.EventTypes)),
		Enabled: row.DisabledAt == nil, DisabledAt: maybe(row.DisabledAt), DisabledBecause: string(row.DisabledBecause), Failures: row.Failures,
		FailingSince: maybe(row.FailingSince), CreatedBy: row.CreatedBy, CreatedAt: moment(row.CreatedAt), UpdatedAt: moment(row.UpdatedAt),
	}
	for i, kind := range row.EventTypes {
		body.EventTypes[i] = webhookEventType(kind)
	}
	if row.PreviousExpiresAt != nil && s.config.Now().Before(*row.PreviousExpiresAt) {
		body.PreviousSecretExpiresAt = maybe(row.PreviousExpiresAt)
	}
	return body
}
