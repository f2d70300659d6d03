package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) webhookCommand() *cobra.Command {
	return group("webhook", "Have events told to an address of yours", c.webhookCreate(), c.webhookList(), c.webhookGet(), c.webhookUpdate(),
		c.webhookSwitch("enable", "Tell it of events again, and forget its failures so far", true), c.webhookSwitch("disable", "Tell it nothing for now", false),
		c.webhookRotate(), c.webhookTest(), c.webhookDelete(), c.deliveryList(), c.deliveryShow(), c.deliveryAgain())
}

func webhookTable(w client.Webhook) table {
	return fields("webhook", w.ID, "url", w.URL, "description", w.Description, "events", eventsOf(w), "enabled", yesNo(w.Enabled),
		"disabled", optionalInstant(w.DisabledAt), "because", text(w.DisabledBecause), "failures", strconv.FormatInt(w.Failures, 10),
		"failing since", optionalInstant(w.FailingSince), "previous secret until", optionalInstant(w.PreviousSecretExpiresAt), "tenant", w.TenantID,
		"created by", w.CreatedBy, "created", instant(w.CreatedAt), "updated", instant(w.UpdatedAt))
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func eventsOf(w client.Webhook) string {
	if len(w.EventTypes) == 0 {
		return "all"
	}
	names := make([]string, len(w.EventTypes))
	for i, kind := range w.EventTypes {
		names[i] = string(kind)
	}
	return strings.Join(names, " ")
}

func webhookEvents(names []string) *[]client.WebhookEventType {
	types := []client.WebhookEventType{}
	for _, name := range names {
		types = append(types, client.WebhookEventType(name))
	}
	return &types
}

// showSecret shows a secret alone, so that it can be piped to where it is kept.
func (c *command) showSecret(response *http.Response, err error) error {
	var made client.CreatedWebhook
	body, err := decode(&made)(response, err)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "webhook %s, its signing secret, shown once\n", made.Webhook.ID)
	return c.show(body, func() table { return table{rows: [][]string{{made.Secret}}} })
}

func (c *command) webhookCreate() *cobra.Command {
	var tenant, description string
	var events []string
	cmd := &cobra.Command{
		Use: "create URL", Short: "Have a tenant's events sent to a URL",
		Long: "Have a tenant's events sent to a URL, signed as Standard Webhooks says. The signing secret is printed to stdout, once.",
		Args: exact(1, "a URL"),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "this tenant's events (default: the context's, or your own)")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringSliceVar(&events, "event", nil, "only events of this type; repeat for more (default: all)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		key := newKey()
		return c.showSecret(api.CreateWebhook(cmd.Context(), &client.CreateWebhookParams{XIdempotencyKey: &key},
			client.CreateWebhookRequest{TenantID: in, URL: arguments[0], Description: optional(description), EventTypes: webhookEvents(events)}))
	}
	return cmd
}

func (c *command) webhookList() *cobra.Command {
	var tenant string
	cmd := listing(c, "List webhook endpoints", []string{"WEBHOOK", "URL", "EVENTS", "ENABLED", "FAILURES", "CREATED"},
		func(w client.Webhook) []string {
			return []string{w.ID, w.URL, eventsOf(w), yesNo(w.Enabled), strconv.FormatInt(w.Failures, 10), instant(w.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.ListWebhooks(ctx, &client.ListWebhooksParams{TenantID: in, Limit: size, Cursor: cursor})
		})
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	return cmd
}

func (c *command) webhookGet() *cobra.Command {
	return asking(c, "get WEBHOOK", "Show a webhook endpoint", exact(1, "the webhook's id"), webhookTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetWebhook(ctx, arguments[0])
		})
}

func (c *command) webhookUpdate() *cobra.Command {
	var address, description string
	var events []string
	var everything bool
	var cmd *cobra.Command
	cmd = asking(c, "update WEBHOOK", "Change where events are sent, or which", exact(1, "the webhook's id"), webhookTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			change := client.UpdateWebhookRequest{URL: optional(address)}
			if cmd.Flags().Changed("description") {
				change.Description = &description
			}
			if len(events) > 0 || everything {
				change.EventTypes = webhookEvents(events)
			}
			key := newKey()
			return api.UpdateWebhook(ctx, arguments[0], &client.UpdateWebhookParams{XIdempotencyKey: &key}, change)
		})
	cmd.Flags().StringVar(&address, "url", "", "where events are sent")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringSliceVar(&events, "event", nil, "only events of this type; repeat for more")
	cmd.Flags().BoolVar(&everything, "all-events", false, "events of every type")
	cmd.MarkFlagsMutuallyExclusive("event", "all-events")
	return cmd
}

func (c *command) webhookSwitch(verb, short string, enabled bool) *cobra.Command {
	return asking(c, verb+" WEBHOOK", short, exact(1, "the webhook's id"), webhookTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.UpdateWebhook(ctx, arguments[0], &client.UpdateWebhookParams{XIdempotencyKey: &key}, client.UpdateWebhookRequest{Enabled: &enabled})
		})
}

func (c *command) webhookRotate() *cobra.Command {
	var overlap string
	cmd := &cobra.Command{Use: "rotate WEBHOOK", Short: "Make a new signing secret, and let the one before sign beside it for a while", Args: exact(1, "the webhook's id")}
	cmd.Flags().StringVar(&overlap, "overlap", "", "seconds for which the secret before signs too (policy's value when absent; 0: end it now)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		seconds, err := overlapSeconds(overlap)
		if err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		return c.showSecret(api.RotateWebhookSecret(cmd.Context(), arguments[0], &client.RotateWebhookSecretParams{XIdempotencyKey: &key},
			client.RotateWebhookSecretRequest{OverlapSeconds: seconds}))
	}
	return cmd
}

func (c *command) webhookTest() *cobra.Command {
	return asking(c, "test WEBHOOK", "Send something of the type webhooks.test, once", exact(1, "the webhook's id"), deliveryTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.TestWebhook(ctx, arguments[0], &client.TestWebhookParams{XIdempotencyKey: &key})
		})
}

func (c *command) webhookDelete() *cobra.Command {
	return c.losing("Deleting %s removes its secret and the log of what was told to it.",
		asking(c, "delete WEBHOOK", "Remove a webhook endpoint", exact(1, "the webhook's id"), nothing,
			func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
				key := newKey()
				return api.DeleteWebhook(ctx, arguments[0], &client.DeleteWebhookParams{XIdempotencyKey: &key})
			}))
}

func (c *command) deliveryList() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "deliveries WEBHOOK", Short: "List what was to be told to an endpoint, newest first", Args: exact(1, "the webhook's id")}
	cmd.Flags().StringVar(&state, "state", "", "only those that are pending, delivered, failed or skipped")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		found, body, err := all[client.WebhookDelivery](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListWebhookDeliveries(ctx, arguments[0], &client.ListWebhookDeliveriesParams{State: optional(client.WebhookDeliveryState(state)), Limit: &size, Cursor: cursor})
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"DELIVERY", "EVENT", "STATE", "ATTEMPTS", "CREATED", "NEXT ATTEMPT", "ENDED"}}
			for _, d := range found {
				shown.rows = append(shown.rows, []string{d.ID, d.EventType, string(d.State), strconv.FormatInt(d.Attempts, 10), instant(d.CreatedAt),
					optionalInstant(d.NextAttemptAt), optionalInstant(d.EndedAt)})
			}
			return shown
		})
	}
	return cmd
}

func deliveryTable(d client.WebhookDelivery) table {
	shown := fields("delivery", d.ID, "webhook", d.WebhookID, "event", d.EventType+" "+d.EventID.String(), "state", string(d.State), "round", strconv.FormatInt(d.Round, 10),
		"attempts", strconv.FormatInt(d.Attempts, 10), "next attempt", optionalInstant(d.NextAttemptAt), "created", instant(d.CreatedAt), "ended", optionalInstant(d.EndedAt),
		"body", d.Body)
	if d.Log == nil {
		return shown
	}
	for _, a := range *d.Log {
		status := ""
		if a.StatusCode != nil {
			status = fmt.Sprintf(" %d", *a.StatusCode)
		}
		shown.rows = append(shown.rows, []string{fmt.Sprintf("attempt %d.%d", a.Round, a.Number),
			strings.TrimSpace(fmt.Sprintf("%s%s in %d ms at %s %s", a.Outcome, status, a.LatencyMs, instant(a.StartedAt), text(a.Detail)))})
	}
	return shown
}

func (c *command) deliveryShow() *cobra.Command {
	return asking(c, "delivery DELIVERY", "Show a delivery with every attempt", exact(1, "the delivery's id"), deliveryTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetWebhookDelivery(ctx, arguments[0])
		})
}

func (c *command) deliveryAgain() *cobra.Command {
	return asking(c, "redeliver DELIVERY", "Send it again, whatever came of it before", exact(1, "the delivery's id"), deliveryTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.RedeliverWebhook(ctx, arguments[0], &client.RedeliverWebhookParams{XIdempotencyKey: &key})
		})
}
