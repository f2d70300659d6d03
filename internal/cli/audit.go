package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// auditQuery is what `gpuaas audit` was asked for.
type auditQuery struct {
	tenant, actor, action, targetType, targetID, result, since, until string
	everywhere                                                        bool
	limit                                                             int64
}

func (c *command) auditCommand() *cobra.Command {
	var q auditQuery
	cmd := &cobra.Command{
		Use: "audit", Short: "Search the audit log, newest first", Args: none,
		Long: "Search the audit log of your tenant, of another one (--tenant), or of the platform and all tenants (--all, operators).",
	}
	flags := cmd.Flags()
	flags.StringVar(&q.tenant, "tenant", "", "another tenant's")
	flags.BoolVar(&q.everywhere, "all", false, "the platform's and every tenant's (operators)")
	flags.StringVar(&q.actor, "actor", "", "only what this user, service account or node did")
	flags.StringVar(&q.action, "action", "", "only this action")
	flags.StringVar(&q.targetType, "target-type", "", "only what was done to this kind of object")
	flags.StringVar(&q.targetID, "target", "", "only what was done to this object")
	flags.StringVar(&q.result, "result", "", "success or refused")
	flags.StringVar(&q.since, "since", "", "from this instant on (RFC 3339)")
	flags.StringVar(&q.until, "until", "", "before this instant (RFC 3339)")
	flags.Int64Var(&q.limit, "limit", 50, "how many rows (0: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.limit < 0 {
			return usage("--limit is not negative")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		fetch, err := c.auditPages(cmd.Context(), api, q)
		if err != nil {
			return err
		}
		rows, body, err := all[client.AuditRow](cmd.Context(), q.limit, fetch)
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"ROW", "WHEN", "ACTOR", "ROLE", "ACTION", "TARGET", "RESULT", "CORRELATION"}}
			for _, row := range rows {
				shown.rows = append(shown.rows, []string{fmt.Sprint(row.ID), instant(row.CreatedAt), row.ActorUserID, row.ActorRole, row.Action,
					row.TargetType + " " + row.TargetID, string(row.Result), row.CorrelationID})
			}
			return shown
		})
	}
	return cmd
}

type pageFetcher = func(ctx context.Context, size int64, cursor *string) (*http.Response, error)

// auditPages says how the pages of the search are fetched.
func (c *command) auditPages(ctx context.Context, api client.ClientInterface, q auditQuery) (pageFetcher, error) {
	since, err := instantFlag("--since", q.since)
	if err != nil {
		return nil, err
	}
	until, err := instantFlag("--until", q.until)
	if err != nil {
		return nil, err
	}
	if q.everywhere {
		return func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListAudit(ctx, &client.ListAuditParams{
				TenantID: optional(q.tenant), ActorUserID: optional(q.actor), Action: optional(q.action), TargetType: optional(q.targetType), TargetID: optional(q.targetID),
				Result: optional(client.ListAuditParamsResult(q.result)), Since: since, Until: until, Limit: &size, Cursor: cursor,
			})
		}, nil
	}
	named, err := c.tenantOf(q.tenant)
	if err != nil {
		return nil, err
	}
	tenant := text(named)
	if tenant == "" {
		var me client.Me
		if _, err := decode(&me)(api.GetMe(ctx)); err != nil {
			return nil, err
		}
		tenant = me.Tenant.ID
	}
	return func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
		return api.ListTenantAudit(ctx, tenant, &client.ListTenantAuditParams{
			ActorUserID: optional(q.actor), Action: optional(q.action), TargetType: optional(q.targetType), TargetID: optional(q.targetID),
			Result: optional(client.ListTenantAuditParamsResult(q.result)), Since: since, Until: until, Limit: &size, Cursor: cursor,
		})
	}, nil
}

func instantFlag(flag, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usage("%s takes an instant such as 2026-01-05T09:30:00Z", flag)
	}
	return &at, nil
}
