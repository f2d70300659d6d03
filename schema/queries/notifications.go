package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
)

// NewNotification is an event that people are told of. ProjectID and UserID are empty for an event about the tenant as a whole, and TenantID
// too for one that operators are told of.
type NewNotification struct {
	TenantID  id.Tenant
	EventID   string
	EventType event.Type
	Audience  event.Audience
	ProjectID id.Project
	UserID    id.User
	Event     json.RawMessage
}

// LockNotifications makes writers of notifications wait for each other until their transactions end; it comes before the first insert.
func LockNotifications(ctx context.Context, db DB) error {
	_, err := execute(ctx, db, "NotificationLock")
	return err
}

// InsertNotification writes one, under LockNotifications.
func InsertNotification(ctx context.Context, db DB, n NewNotification) error {
	_, err := execute(ctx, db, "NotificationInsert", pgx.NamedArgs{
		"tenant_id": optional(n.TenantID), "event_id": n.EventID, "event_type": n.EventType, "audience": n.Audience,
		"project_id": optional(n.ProjectID), "user_id": optional(n.UserID), "event": n.Event,
	})
	return err
}

// Notification is one as somebody sees it; Event is the whole envelope, and TenantID empty in one for operators.
type Notification struct {
	ID        int64
	TenantID  id.Tenant
	EventID   string
	EventType event.Type
	Event     json.RawMessage
	CreatedAt time.Time
	ReadAt    *time.Time
}

// Sight is what somebody may see: in the tenants they belong to, what is about OwnerID's allocations; and what is for members or for billing
// where they are such; and what is for operators where they are one. UserID is who has read what.
type Sight struct {
	UserID         id.User
	OwnerID        id.User
	Tenants        []id.Tenant
	MemberTenants  []id.Tenant
	MemberProjects []id.Project
	BillingTenants []id.Tenant
	Operator       bool
}

func (s Sight) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{
		"user_id": s.UserID, "owner_id": optional(s.OwnerID), "tenant_ids": s.Tenants, "member_tenants": s.MemberTenants, "member_projects": s.MemberProjects,
		"billing_tenants": s.BillingTenants, "operator": s.Operator,
	}
}

func (s Sight) with(more pgx.NamedArgs) pgx.NamedArgs {
	all := s.arguments()
	for name, value := range more {
		all[name] = value
	}
	return all
}

// NotificationsBefore reads what somebody may see below an id, newest first.
func NotificationsBefore(ctx context.Context, db DB, sight Sight, before int64, unread bool, limit int) ([]Notification, error) {
	return many[Notification](ctx, db, "NotificationsBefore", sight.with(pgx.NamedArgs{"before_id": before, "unread": unread, "limit": limit}))
}

// NotificationsAfter reads what somebody may see above an id, oldest first.
func NotificationsAfter(ctx context.Context, db DB, sight Sight, after int64, unread bool, limit int) ([]Notification, error) {
	return many[Notification](ctx, db, "NotificationsAfter", sight.with(pgx.NamedArgs{"after_id": after, "unread": unread, "limit": limit}))
}

// NewestNotification is the highest id where somebody may see any, zero when there is none.
func NewestNotification(ctx context.Context, db DB, sight Sight) (int64, error) {
	row, err := one[struct{ ID int64 }](ctx, db, "NotificationNewest", pgx.NamedArgs{"tenant_ids": sight.Tenants, "operator": sight.Operator})
	return row.ID, err
}

// NotificationOfEvent is the id of an event's notification where somebody may see any; pgx.ErrNoRows where there is none.
func NotificationOfEvent(ctx context.Context, db DB, sight Sight, eventID string) (int64, error) {
	row, err := one[struct{ ID int64 }](ctx, db, "NotificationOfEvent", pgx.NamedArgs{"tenant_ids": sight.Tenants, "operator": sight.Operator, "event_id": eventID})
	return row.ID, err
}

// ReadNotifications marks events as read by somebody who may see them, and says how many were not before.
func ReadNotifications(ctx context.Context, db DB, sight Sight, eventIDs []string) (int64, error) {
	return execute(ctx, db, "NotificationsRead", sight.with(pgx.NamedArgs{"event_ids": eventIDs}))
}

// PurgeNotifications removes a limited number of those older than keep, and says how many.
func PurgeNotifications(ctx context.Context, db DB, keep time.Duration, limit int) (int64, error) {
	return execute(ctx, db, "NotificationsPurge", pgx.NamedArgs{"keep": keep, "limit": limit})
}
