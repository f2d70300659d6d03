package cli

import (
	"context"
	"net/http"

	"github.com/oapi-codegen/runtime/types"
	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// notificationsCommand is what happened that concerns the caller.
func (c *command) notificationsCommand() *cobra.Command {
	var unread bool
	list := listing(c, "List what happened that concerns you, newest first", []string{"EVENT", "WHEN", "WHAT", "TENANT", "READ"},
		func(n client.Notification) []string {
			return []string{n.EventID.String(), instant(n.CreatedAt), n.EventType, concerned(n), optionalInstant(n.ReadAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListNotifications(ctx, &client.ListNotificationsParams{Unread: &unread, Limit: size, Cursor: cursor})
		})
	list.Flags().BoolVar(&unread, "unread", false, "only what you have not marked as read")
	read := asking(c, "read EVENT…", "Mark notifications as read", cobra.MinimumNArgs(1), nothing,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			events := make([]types.UUID, len(arguments))
			for i, argument := range arguments {
				if err := events[i].UnmarshalText([]byte(argument)); err != nil {
					return nil, usage("EVENT is an id that `gpuaas notifications list` shows, not %q", argument)
				}
			}
			key := newKey()
			return api.ReadNotifications(ctx, &client.ReadNotificationsParams{XIdempotencyKey: &key}, client.ReadNotificationsRequest{EventIds: events})
		})
	return group("notifications", "What happened that concerns you", list, c.notificationsWatch(), read, c.notificationPreferences())
}

// concerned is whose a notification is.
func concerned(n client.Notification) string {
	if n.TenantID == nil {
		return "(the platform)"
	}
	return *n.TenantID
}

// notificationPreferences is what the caller is written to about.
func (c *command) notificationPreferences() *cobra.Command {
	shown := func(p client.NotificationPreferences) table {
		address := "no address is known"
		switch {
		case p.EmailAddress != nil && p.EmailVerified:
			address = *p.EmailAddress
		case p.EmailAddress != nil:
			address = *p.EmailAddress + " is not verified: nothing is sent"
		}
		t := table{header: []string{"CATEGORY", "EMAIL", "MEANING"}, rows: [][]string{{"(address)", address, ""}}}
		for _, one := range p.Categories {
			standing := "off"
			switch {
			case one.Essential:
				standing = "always"
			case one.Email:
				standing = "on"
			}
			t.rows = append(t.rows, []string{string(one.Category), standing, one.Meaning})
		}
		return t
	}
	show := asking(c, "show", "Show what you are written to about, and where", cobra.NoArgs, shown,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			return api.GetNotificationPreferences(ctx)
		})
	var off []string
	set := asking(c, "set", "Choose what you are written to about: everything but what --off names", cobra.NoArgs, shown,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			key := newKey()
			request := client.SetNotificationPreferencesRequest{EmailOff: []client.SetNotificationPreferencesRequestEmailOff{}}
			for _, category := range off {
				request.EmailOff = append(request.EmailOff, client.SetNotificationPreferencesRequestEmailOff(category))
			}
			return api.SetNotificationPreferences(ctx, &client.SetNotificationPreferencesParams{XIdempotencyKey: &key}, request)
		})
	set.Flags().StringSliceVar(&off, "off", nil, "categories that you want no mail of, comma separated; without it, mail of all")
	return group("preferences", "What you are written to about", show, set)
}
