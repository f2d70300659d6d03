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
			return []string{n.EventID.String(), instant(n.CreatedAt), n.EventType, n.TenantID, optionalInstant(n.ReadAt)}
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
	return group("notifications", "What happened that concerns you", list, c.notificationsWatch(), read)
}
