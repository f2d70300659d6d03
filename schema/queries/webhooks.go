package queries

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/webhook"
)

// WebhookEndpoint is a row of webhook_endpoints. Secret and PreviousSecret are sealed (internal/webhook).
type WebhookEndpoint struct {
	ID                id.Webhook
	TenantID          id.Tenant
	URL               string
	Description       string
	EventTypes        []event.Type
	Secret            []byte
	SecretSHA256      []byte `db:"secret_sha256"`
	PreviousSecret    []byte
	PreviousExpiresAt *time.Time
	DisabledAt        *time.Time
	DisabledBecause   webhook.Cause
	Failures          int64
	FailingSince      *time.Time
	CreatedBy         id.User
	CreatedAt         time.Time
	UpdatedAt         time.Time
	DeletedAt         *time.Time
}

// InsertWebhookEndpoint writes a new one; false when it stands already.
func InsertWebhookEndpoint(ctx context.Context, db DB, e WebhookEndpoint) (bool, error) {
	changed, err := execute(ctx, db, "WebhookEndpointInsert", pgx.NamedArgs{
		"id": e.ID, "tenant_id": e.TenantID, "url": e.URL, "description": e.Description, "event_types": e.EventTypes, "secret": e.Secret,
		"secret_sha256": e.SecretSHA256, "created_by": e.CreatedBy,
	})
	return changed == 1, err
}

// GetWebhookEndpoint reads one of any tenant, a deleted one too; pgx.ErrNoRows when there is none.
func GetWebhookEndpoint(ctx context.Context, db DB, endpoint id.Webhook) (WebhookEndpoint, error) {
	return one[WebhookEndpoint](ctx, db, "WebhookEndpointGet", pgx.NamedArgs{"id": endpoint})
}

// HoldWebhookEndpoint reads one and holds it until the transaction ends.
func HoldWebhookEndpoint(ctx context.Context, db DB, tenant id.Tenant, endpoint id.Webhook) (WebhookEndpoint, error) {
	return one[WebhookEndpoint](ctx, db, "WebhookEndpointHold", pgx.NamedArgs{"id": endpoint, "tenant_id": tenant})
}

// WebhookEndpointsOf reads a page of a tenant's endpoints.
func WebhookEndpointsOf(ctx context.Context, db DB, tenant id.Tenant, page Page) ([]WebhookEndpoint, error) {
	return many[WebhookEndpoint](ctx, db, "WebhookEndpointPage", page.arguments(pgx.NamedArgs{"tenant_id": tenant}))
}

// CountWebhookEndpoints says how many a tenant has.
func CountWebhookEndpoints(ctx context.Context, db DB, tenant id.Tenant) (int64, error) {
	row, err := one[struct{ Endpoints int64 }](ctx, db, "WebhookEndpointCount", pgx.NamedArgs{"tenant_id": tenant})
	return row.Endpoints, err
}

// UpdateWebhookEndpoint writes what may change of one, its secrets aside.
func UpdateWebhookEndpoint(ctx context.Context, db DB, e WebhookEndpoint) error {
	_, err := execute(ctx, db, "WebhookEndpointUpdate", pgx.NamedArgs{
		"id": e.ID, "tenant_id": e.TenantID, "url": e.URL, "description": e.Description, "event_types": e.EventTypes, "disabled_at": e.DisabledAt,
		"disabled_because": e.DisabledBecause, "failures": e.Failures, "failing_since": e.FailingSince,
	})
	return err
}

// RotateWebhookSecret puts a sealed secret in the place of the one before, which still signs until an instant. One that was there from a
// rotation before ends at once.
func RotateWebhookSecret(ctx context.Context, db DB, e WebhookEndpoint, sealed []byte, hash [sha256.Size]byte, previousUntil time.Time) error {
	_, err := execute(ctx, db, "WebhookEndpointRotate", pgx.NamedArgs{
		"id": e.ID, "tenant_id": e.TenantID, "secret": sealed, "secret_sha256": hash[:], "previous_expires_at": previousUntil,
	})
	return err
}

// DeleteWebhookEndpoint removes one, but for its id, with its deliveries.
func DeleteWebhookEndpoint(ctx context.Context, db DB, e WebhookEndpoint) error {
	for _, statement := range []string{"WebhookEndpointDelete", "WebhookEndpointForget"} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"id": e.ID, "tenant_id": e.TenantID}); err != nil {
			return err
		}
	}
	return nil
}

// ListeningEndpoint is one that an event is for.
type ListeningEndpoint struct {
	ID       id.Webhook
	Disabled bool
}

// ListeningEndpoints are those of a tenant that asked for a type of event before it happened.
func ListeningEndpoints(ctx context.Context, db DB, tenant id.Tenant, kind event.Type, occurredAt time.Time) ([]ListeningEndpoint, error) {
	return many[ListeningEndpoint](ctx, db, "WebhookEndpointsListening", pgx.NamedArgs{"tenant_id": tenant, "event_type": kind, "occurred_at": occurredAt})
}

// WebhookDelivery is a row of webhook_deliveries. NextAttemptAt is nil where none is waited for.
type WebhookDelivery struct {
	ID            id.Delivery
	TenantID      id.Tenant
	EndpointID    id.Webhook
	EventID       string
	EventType     event.Type
	Body          string
	Test          bool
	State         webhook.State
	Round         int
	RoundAt       time.Time
	Attempts      int
	NextAttemptAt *time.Time
	CreatedAt     time.Time
	EndedAt       *time.Time
}

// DeliveryID is the id of the delivery of an event to an endpoint: the same however often the event arrives.
func DeliveryID(endpoint id.Webhook, eventID string) id.Delivery {
	sum := sha256.Sum256([]byte(string(endpoint) + "\x00" + eventID))
	return id.New[id.Delivery]([16]byte(sum[:16]))
}

// InsertWebhookDelivery writes one; false when it stands already.
func InsertWebhookDelivery(ctx context.Context, db DB, d WebhookDelivery) (bool, error) {
	changed, err := execute(ctx, db, "WebhookDeliveryInsert", pgx.NamedArgs{
		"id": d.ID, "tenant_id": d.TenantID, "endpoint_id": d.EndpointID, "event_id": d.EventID, "event_type": d.EventType, "body": d.Body, "test": d.Test,
		"state": d.State,
	})
	return changed == 1, err
}

// GetWebhookDelivery reads one of any tenant; pgx.ErrNoRows when there is none.
func GetWebhookDelivery(ctx context.Context, db DB, delivery id.Delivery) (WebhookDelivery, error) {
	return one[WebhookDelivery](ctx, db, "WebhookDeliveryGet", pgx.NamedArgs{"id": delivery})
}

// HoldWebhookDelivery reads one and holds it until the transaction ends.
func HoldWebhookDelivery(ctx context.Context, db DB, tenant id.Tenant, delivery id.Delivery) (WebhookDelivery, error) {
	return one[WebhookDelivery](ctx, db, "WebhookDeliveryHold", pgx.NamedArgs{"id": delivery, "tenant_id": tenant})
}

// WebhookDeliveriesOf reads a page of an endpoint's deliveries, those in one state where it is named.
func WebhookDeliveriesOf(ctx context.Context, db DB, e WebhookEndpoint, state webhook.State, page Page) ([]WebhookDelivery, error) {
	return many[WebhookDelivery](ctx, db, "WebhookDeliveryPage", page.arguments(pgx.NamedArgs{
		"endpoint_id": e.ID, "tenant_id": e.TenantID, "state": optional(state),
	}))
}

// MoveWebhookDelivery writes what came of an attempt at a pending delivery, or, not attempted, that it was passed over; false when it is in
// another round, or has ended.
func MoveWebhookDelivery(ctx context.Context, db DB, d WebhookDelivery, to webhook.State, attempted bool, next *time.Time) (bool, error) {
	changed, err := execute(ctx, db, "WebhookDeliveryMove", pgx.NamedArgs{
		"id": d.ID, "tenant_id": d.TenantID, "round": d.Round, "state": to, "attempted": count(attempted), "next_attempt_at": next,
	})
	return changed == 1, err
}

func count(one bool) int {
	if one {
		return 1
	}
	return 0
}

// RepeatWebhookDelivery begins another round of one that has ended; false when it has not.
func RepeatWebhookDelivery(ctx context.Context, db DB, d WebhookDelivery) (bool, error) {
	changed, err := execute(ctx, db, "WebhookDeliveryAgain", pgx.NamedArgs{"id": d.ID, "tenant_id": d.TenantID})
	return changed == 1, err
}

// DueDelivery is one whose round has no workflow yet.
type DueDelivery struct {
	ID        id.Delivery
	TenantID  id.Tenant
	Round     int
	EventType event.Type
}

// DueDeliveries lists some of them, oldest first.
func DueDeliveries(ctx context.Context, db DB, limit int) ([]DueDelivery, error) {
	return many[DueDelivery](ctx, db, "WebhookDeliveriesNotBegun", pgx.NamedArgs{"row_limit": limit})
}

// NoteWebhookBegun writes that a round's workflow was begun.
func NoteWebhookBegun(ctx context.Context, db DB, due DueDelivery) error {
	_, err := execute(ctx, db, "WebhookDeliveryBegun", pgx.NamedArgs{"id": due.ID, "tenant_id": due.TenantID, "round": due.Round})
	return err
}

// WebhookAttempt is one attempt at a delivery. StatusCode is nil where nobody answered.
type WebhookAttempt struct {
	Round      int
	Number     int
	Outcome    webhook.Outcome
	StatusCode *int
	LatencyMs  int64
	Detail     string
	Response   string
	StartedAt  time.Time
}

// InsertWebhookAttempt writes one; false when it was written before.
func InsertWebhookAttempt(ctx context.Context, db DB, d WebhookDelivery, a WebhookAttempt) (bool, error) {
	changed, err := execute(ctx, db, "WebhookAttemptInsert", pgx.NamedArgs{
		"delivery_id": d.ID, "tenant_id": d.TenantID, "round": a.Round, "number": a.Number, "outcome": a.Outcome, "status_code": a.StatusCode,
		"latency_ms": a.LatencyMs, "detail": a.Detail, "response": a.Response, "started_at": a.StartedAt,
	})
	return changed == 1, err
}

// WebhookAttemptsOf reads every attempt at a delivery, in order.
func WebhookAttemptsOf(ctx context.Context, db DB, d WebhookDelivery) ([]WebhookAttempt, error) {
	return many[WebhookAttempt](ctx, db, "WebhookAttemptsOf", pgx.NamedArgs{"delivery_id": d.ID, "tenant_id": d.TenantID})
}

// PurgeWebhookDeliveries removes a limited number of those that ended longer ago than keep, and says how many.
func PurgeWebhookDeliveries(ctx context.Context, db DB, keep time.Duration, limit int) (int64, error) {
	return execute(ctx, db, "WebhookDeliveriesPurge", pgx.NamedArgs{"keep": keep, "row_limit": limit})
}
