package api

import (
	"context"
	"encoding/json"
	"math"
	"strconv"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type (
	notificationBody struct {
		EventID   string    `json:"event_id" format:"uuid" doc:"Where to go on from, by ?after=."`
		EventType string    `json:"event_type" doc:"One of those in the contract of events."`
		TenantID  id.Tenant `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Whose it is; absent in one for operators, which concerns the platform."`
		CreatedAt moment    `json:"created_at"`
		ReadAt    *moment   `json:"read_at,omitempty" doc:"When you marked it as read; absent when you did not."`
		Event     freeForm  `json:"event" doc:"The event as it was published (schema/asyncapi.yaml)."`
	}
	listNotificationsIn struct {
		Paging
		After  string `query:"after" format:"uuid" doc:"Only what came after this event, oldest first; without it, newest first."`
		Unread bool   `query:"unread" default:"false" doc:"Only what you have not marked as read."`
	}
	notificationListOut struct {
		Body list[notificationBody]
	}
	readNotificationsIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			EventIDs []string `json:"event_ids" minItems:"1" maxItems:"200" format:"uuid" doc:"What you have read; what you may not see is passed over."`
		}
	}
)

func (s *server) notificationOperations() {
	handle(s, "listNotifications", s.listNotifications)
	handle(s, "readNotifications", s.readNotifications)
	handle(s, "getNotificationPreferences", s.getNotificationPreferences)
	handle(s, "setNotificationPreferences", s.setNotificationPreferences)
}

// sightOf is what somebody may see with the credential in hand: allocations and money where a role lets them, and what their own
// allocations do; and the platform where they operate it.
func sightOf(who identity.Principal) queries.Sight {
	sight := queries.Sight{UserID: who.UserID, Tenants: []id.Tenant{}, Operator: who.Reaches(identity.PlatformRead)}
	for _, standing := range who.Tenants {
		if !standing.Closed {
			sight.Tenants = append(sight.Tenants, standing.TenantID)
		}
	}
	allocations, money := who.InScope(identity.AllocationsRead), who.InScope(identity.BillingRead)
	if allocations {
		sight.OwnerID = who.UserID
	}
	for _, membership := range who.Memberships {
		inTenant := membership.ProjectID == ""
		if inTenant && money && seesMoneyTold(membership.Role) {
			sight.BillingTenants = append(sight.BillingTenants, membership.TenantID)
		}
		switch {
		case !allocations:
		case inTenant && membership.Role.Grants(identity.AllocationsRead):
			sight.MemberTenants = append(sight.MemberTenants, membership.TenantID)
		case !inTenant && membership.Role.GrantsInProject(identity.AllocationsRead):
			sight.MemberProjects = append(sight.MemberProjects, membership.ProjectID)
		}
	}
	return sight
}

// seesMoneyTold says who is told of the tenant's money: whoever answers for it. A plain member may look at the balance and is not told.
func seesMoneyTold(role identity.Role) bool {
	return role == identity.Owner || role == identity.Admin || role == identity.Billing
}

func (s *server) listNotifications(ctx context.Context, in *listNotificationsIn) (*notificationListOut, error) {
	sight := sightOf(middleware.Principal(ctx))
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	var behind int64
	if from.ID != "" {
		if behind, err = strconv.ParseInt(from.ID, 10, 64); err != nil {
			return nil, invalid("query.cursor", "the cursor is not one that a page of notifications answered")
		}
	}
	var rows []queries.Notification
	switch {
	case in.After == "" && behind == 0:
		rows, err = queries.NotificationsBefore(ctx, s.config.Pool, sight, math.MaxInt64, in.Unread, in.fetch())
	case in.After == "":
		rows, err = queries.NotificationsBefore(ctx, s.config.Pool, sight, behind, in.Unread, in.fetch())
	default:
		if behind == 0 {
			if behind, err = queries.NotificationOfEvent(ctx, s.config.Pool, sight, in.After); err != nil {
				return nil, orMissing(err, fault.NotificationNotFound)
			}
		}
		rows, err = queries.NotificationsAfter(ctx, s.config.Pool, sight, behind, in.Unread, in.fetch())
	}
	if err != nil {
		return nil, err
	}
	return &notificationListOut{Body: paged(in.Paging, rows,
		func(row queries.Notification) after { return after{row.CreatedAt, strconv.FormatInt(row.ID, 10)} }, renderNotification)}, nil
}

func renderNotification(row queries.Notification) notificationBody {
	body := notificationBody{
		EventID: row.EventID, EventType: string(row.EventType), TenantID: row.TenantID, CreatedAt: moment(row.CreatedAt), ReadAt: maybe(row.ReadAt), Event: freeForm{},
	}
	_ = json.Unmarshal(row.Event, &body.Event) // the database holds an object
	return body
}

func (s *server) readNotifications(ctx context.Context, in *readNotificationsIn) (*struct{}, error) {
	_, err := queries.ReadNotifications(ctx, s.config.Pool, sightOf(middleware.Principal(ctx)), in.Body.EventIDs)
	return nil, err
}
